"""OpenDMVPN: a dynamic multipoint VPN for ordinary Linux."""
