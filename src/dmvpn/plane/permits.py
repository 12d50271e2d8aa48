"""Who may send what through a tunnel: the inner sources that each sender's claims allow. Told by dmvpnd, kept here."""

from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import Final

from dmvpn.errors import WrongInput

SENDERS_LIMIT: Final = 16384
PREFIXES_LIMIT: Final = 4096
FLOOD_LIMIT: Final = 4096

Prefix = IPv4Network | IPv6Network


class Permits:
    """One tunnel's table, by sender (4 octets)."""

    def __init__(self) -> None:
        self.prefixes: dict[bytes, tuple[Prefix, ...]] = {}
        # The same as (network, mask, octets of the address), which compares without making an address object.
        self._masks: dict[bytes, tuple[tuple[int, int, int], ...]] = {}

    def allow(self, nbma: IPv4Address, prefixes: tuple[Prefix, ...]) -> None:
        """Replace what this sender may use as inner source. Raises WrongInput when a table is full."""
        sender = nbma.packed
        if len(prefixes) > PREFIXES_LIMIT:
            raise WrongInput("allow", f"{len(prefixes)} prefixes for one sender, at most {PREFIXES_LIMIT}")
        if sender not in self.prefixes and len(self.prefixes) >= SENDERS_LIMIT:
            raise WrongInput("allow", f"the table of {SENDERS_LIMIT} senders is full")
        self.prefixes[sender] = prefixes
        self._masks[sender] = tuple(
            (int(prefix.network_address), int(prefix.netmask), prefix.max_prefixlen // 8) for prefix in prefixes
        )

    def forget(self, nbma: IPv4Address) -> None:
        """Allow this sender nothing; it need not have been allowed before."""
        self.prefixes.pop(nbma.packed, None)
        self._masks.pop(nbma.packed, None)

    def knows(self, sender: bytes) -> bool:
        return sender in self._masks

    def covers(self, sender: bytes, source: bytes) -> bool:
        """May this sender use this inner source (4 or 16 octets)?"""
        address = int.from_bytes(source, "big")
        family = len(source)
        return any(
            address & mask == network and family == octets for network, mask, octets in self._masks.get(sender, ())
        )
