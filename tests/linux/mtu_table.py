"""The combinations whose MTU is measured, and what is computed for each: the rows of docs/mtu.md."""

from collections.abc import Iterator
from dataclasses import dataclass

from dmvpn.network.mtu import TCP_V4_OCTETS, TCP_V6_OCTETS, cipher_of, tunnel_mtu_octets, underlay_octets
from dmvpn.network.plan import Plane

UNDERLAYS = (1500, 1492, 1400)  # Ethernet and VLAN, PPPoE, something narrower
OUTER_OCTETS = {4: 20, 6: 40}
# Every length of IV, ICV and block that the file can name.
ESPS = (
    "aes256gcm16",
    "aes256gcm12",
    "aes128gcm8",
    "chacha20poly1305",
    "aes256ccm16",
    "aes256ctr-sha256",
    "aes256-sha256",
    "aes128-sha1",
    "aes192-sha384",
    "aes256-sha512",
    "aes256-aesxcbc",
    "aes256-aescmac",
)
IN_A_PROCESSOR = ("aes256-aesxcbc", "aes256-aescmac")  # charon has these by its plugin for AES instructions only


@dataclass(frozen=True, slots=True)
class Way:
    """How ESP goes. `udp`: because of NAT; userspace ESP always is. `tunnel_mode`: as between our own routers."""

    plane: Plane
    family: int = 4
    udp: bool = True
    tunnel_mode: bool = True

    def mtu_octets(self, esp: str, underlay: int) -> int:
        return tunnel_mtu_octets(
            underlay,
            cipher_of(esp),
            self.plane,
            outer_octets=OUTER_OCTETS[self.family],
            nat_traversal=self.udp,
            tunnel_mode=self.tunnel_mode,
        )

    def underlay_octets(self, esp: str, inner: int) -> int:
        return underlay_octets(
            inner,
            cipher_of(esp),
            self.plane,
            outer_octets=OUTER_OCTETS[self.family],
            nat_traversal=self.udp,
            tunnel_mode=self.tunnel_mode,
        )

    def __str__(self) -> str:
        words = [str(self.plane), f"IPv{self.family}"]
        words += ["ESP in UDP" if self.udp else "ESP"]
        words += [] if self.tunnel_mode else ["transport mode"]
        return ", ".join(words)


WAYS = (
    Way(Plane.USERSPACE),
    Way(Plane.USERSPACE, family=6),
    Way(Plane.KERNEL),
    Way(Plane.KERNEL, udp=False),
    Way(Plane.KERNEL, family=6),
    Way(Plane.KERNEL, family=6, udp=False),
    Way(Plane.KERNEL, tunnel_mode=False),
    Way(Plane.KERNEL, udp=False, tunnel_mode=False),
)


def lines() -> Iterator[str]:
    """The table as the page has it."""
    yield f"| ESP proposal | way | {' | '.join(f'MTU of {one}' for one in UNDERLAYS)} | MSS of 1500, IPv4, IPv6 |"
    yield f"|---|---|{'---|' * len(UNDERLAYS)}---|"
    for esp in ESPS:
        for way in WAYS:
            mtus = [way.mtu_octets(esp, underlay) for underlay in UNDERLAYS]
            sizes = " | ".join(map(str, mtus))
            yield f"| {esp} | {way} | {sizes} | {mtus[0] - TCP_V4_OCTETS}, {mtus[0] - TCP_V6_OCTETS} |"
