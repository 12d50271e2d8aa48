"""Zone policy -> rules -> nftables, and what they say of a packet. Pure."""
