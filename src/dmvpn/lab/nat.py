"""NAT boxes as nftables rule sets: what a customer's router does to addresses and ports. RFC 4787's words.

Linux keeps the source port where it is free, whatever the destination: endpoint-independent mapping. With new packets
from outside dropped, in forward and in input, filtering is address and port dependent: "port restricted". The drop in
input matters: a stray packet that is answered makes a conntrack entry, and the next outbound flow then gets another
port, which breaks hole punching.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address

from dmvpn.network.lab_model import NatKind, NatPort

OUTSIDE = "outside"
INSIDE = "inside"
OTHER_PORT_OFFSET = 20000  # NatPort.OTHER: 4500 becomes 24500, 500 becomes 20500


def rules(kind: NatKind, port: NatPort, public: IPv4Address, inside: Sequence[IPv4Address]) -> str:
    """The rule set of a box whose one outer address is `public`; `inside` are the uplink addresses behind it."""
    match kind:
        case NatKind.ONE_TO_ONE:
            return _one_to_one(public, inside[0])
        case NatKind.PORT_RESTRICTED:
            return _port_restricted(port, public)
        case NatKind.NONE:
            return ""


def _one_to_one(public: IPv4Address, inside: IPv4Address) -> str:
    return f"""table ip nat {{
 chain prerouting {{
  type nat hook prerouting priority dstnat
  iifname "{OUTSIDE}" ip daddr {public} dnat to {inside}
 }}
 chain postrouting {{
  type nat hook postrouting priority srcnat
  oifname "{OUTSIDE}" ip saddr {inside} snat to {public}
 }}
}}
"""


def _port_restricted(port: NatPort, public: IPv4Address) -> str:
    moved = ""
    if port is NatPort.OTHER:
        moved = "".join(
            f'  oifname "{OUTSIDE}" udp sport {inner} snat to {public}:{inner + OTHER_PORT_OFFSET}\n'
            for inner in (500, 4500)
        )
    return f"""table ip nat {{
 chain postrouting {{
  type nat hook postrouting priority srcnat
{moved}  oifname "{OUTSIDE}" snat to {public}
 }}
 chain input {{
  type filter hook input priority filter
  iifname "{OUTSIDE}" ct state new counter drop
 }}
 chain forward {{
  type filter hook forward priority filter
  iifname "{OUTSIDE}" ct state new counter drop
 }}
}}
"""
