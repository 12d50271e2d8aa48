"""NAT boxes as nftables rule sets: what a customer's router does to addresses and ports. RFC 4787's words.

Linux keeps the source port where it is free, whatever the destination: endpoint-independent mapping. With new packets
from outside dropped, in forward and in input, filtering is address and port dependent: "port restricted". The drop in
input matters: a stray packet that is answered makes a conntrack entry, and the next outbound flow then gets another
port, which breaks hole punching. A symmetric box filters alike, and takes another random port for every destination.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from dmvpn.network.lab_model import NatKind, NatPort

OUTSIDE = "outside"
INSIDE = "inside"
LAST_PORT = 65535
OTHER_PORT_OFFSET = 20000  # NatPort.OTHER: 4500 becomes 24500, 500 becomes 20500


@dataclass(frozen=True, slots=True)
class Box:
    """What a NAT router does, and its one outer address."""

    kind: NatKind
    port: NatPort
    public: IPv4Address
    ike_ports: tuple[int, ...] = (500, 4500)

    def __str__(self) -> str:
        moved = ", other port" if self.port is NatPort.OTHER else ""
        return f"{self.kind} NAT{moved}, {self.public}"


def rules(box: Box, inside: Sequence[IPv4Address]) -> str:
    """Its rule set. `inside` are addresses of an uplink behind it; a 1:1 NAT has one."""
    match box.kind:
        case NatKind.ONE_TO_ONE:
            return _one_to_one(box.public, inside[0])
        case NatKind.PORT_RESTRICTED:
            return _closed(f'{_moved(box)}  oifname "{OUTSIDE}" snat to {box.public}\n')
        case NatKind.SYMMETRIC:
            return _closed(f'  oifname "{OUTSIDE}" snat to {box.public} fully-random\n')
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


def _moved(box: Box) -> str:
    if box.port is NatPort.KEEP:
        return ""
    return "".join(
        f'  oifname "{OUTSIDE}" udp sport {inner} snat to {box.public}:{_other(inner)}\n' for inner in box.ike_ports
    )


def _other(port: int) -> int:
    return port + OTHER_PORT_OFFSET if port + OTHER_PORT_OFFSET <= LAST_PORT else port - OTHER_PORT_OFFSET


def _closed(translations: str) -> str:
    """A box with these lines of postrouting that lets in answers only."""
    return f"""table ip nat {{
 chain postrouting {{
  type nat hook postrouting priority srcnat
{translations} }}
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
