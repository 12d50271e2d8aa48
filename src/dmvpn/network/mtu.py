"""How large a packet may be inside GRE and ESP, from what the underlay carries. RFC 4303 2, RFC 2784, RFC 2890."""

from dataclasses import dataclass

from dmvpn.network.plan import Plane

UDP_OCTETS = 8  # RFC 3948: ESP in UDP, when NAT may be on the way
ESP_HEADER_OCTETS = 8  # SPI and sequence number
ESP_TRAILER_OCTETS = 2  # pad length and next header, inside the padded block
GRE_OCTETS = 4
GRE_KEY_OCTETS = 4
LIBIPSEC_MTU_OCTETS = 1400  # of charon's ipsec0; compiled in (kernel_libipsec_router.c)
TCP_V4_OCTETS = 40  # IPv4 and TCP header without options
TCP_V6_OCTETS = 60
FLOOR_OCTETS = 1280  # IPv6 needs this much on every link, RFC 8200 5


@dataclass(frozen=True, slots=True)
class Cipher:
    """What an ESP transform adds: octets of IV and ICV, and the block it pads to (at least 4, RFC 4303 2.4)."""

    iv: int
    icv: int
    block: int


_AEAD = Cipher(iv=8, icv=16, block=4)
CIPHERS = {
    **{f"aes{bits}gcm{tag}": Cipher(8, tag, 4) for bits in ("", 128, 192, 256) for tag in (8, 12, 16)},
    **{f"aes{bits}gcm{tag}": Cipher(8, tag // 8, 4) for bits in ("", 128, 192, 256) for tag in (64, 96, 128)},
    **{f"aes{bits}ccm{tag}": Cipher(8, tag, 4) for bits in ("", 128, 192, 256) for tag in (8, 12, 16)},
    "chacha20poly1305": _AEAD,
    **{f"aes{bits}": Cipher(iv=16, icv=0, block=16) for bits in ("", 128, 192, 256)},
    **{f"aes{bits}ctr": Cipher(iv=8, icv=0, block=4) for bits in ("", 128, 192, 256)},
}
INTEGRITY_OCTETS = {
    "sha1": 12,
    "sha256": 16,
    "sha256_128": 16,
    "sha384": 24,
    "sha512": 32,
    "aesxcbc": 12,
    "aescmac": 12,
}


def cipher_of(proposal: str) -> Cipher:
    """The transform of an ESP proposal in strongSwan's words. Raises KeyError with the word it does not know."""
    words = proposal.split("-")
    cipher = CIPHERS[words[0]]
    if cipher.icv:
        return cipher
    for word in words[1:]:
        if word in INTEGRITY_OCTETS:
            return Cipher(cipher.iv, INTEGRITY_OCTETS[word], cipher.block)
    raise KeyError(f"{proposal} without integrity")


def is_aead(proposal: str) -> bool:
    return CIPHERS[proposal.split("-")[0]].icv > 0


def esp_room_octets(underlay_mtu: int, cipher: Cipher, *, outer_octets: int, udp: bool) -> int:
    """The largest packet (tunnel mode) or payload (transport mode) that ESP carries in one underlay packet."""
    room = underlay_mtu - outer_octets - (UDP_OCTETS if udp else 0) - ESP_HEADER_OCTETS - cipher.iv - cipher.icv
    return room - room % cipher.block - ESP_TRAILER_OCTETS


def _gre_octets(*, gre_key: bool) -> int:
    return GRE_OCTETS + (GRE_KEY_OCTETS if gre_key else 0)


def clear_mtu_octets(underlay_mtu: int, *, outer_octets: int = 20, gre_key: bool = True) -> int:
    """The MTU of a GRE device without ESP."""
    return underlay_mtu - outer_octets - _gre_octets(gre_key=gre_key)


def tunnel_mtu_octets(
    underlay_mtu: int,
    cipher: Cipher,
    plane: Plane,
    *,
    outer_octets: int = 20,
    gre_key: bool = True,
    nat_traversal: bool = True,
    tunnel_mode: bool = True,
) -> int:
    """The MTU of the GRE device.

    `outer_octets` is the header of the packet on the underlay: 20 or 40. Between our own routers ESP is in tunnel mode
    and GRE's own outer header, always IPv4, counts too; to foreign ones it is in transport mode. Userspace ESP is
    always in UDP.
    """
    gre_octets = _gre_octets(gre_key=gre_key)
    match plane:
        case Plane.USERSPACE:
            room = esp_room_octets(underlay_mtu, cipher, outer_octets=outer_octets, udp=True)
            return min(LIBIPSEC_MTU_OCTETS, room) - 20 - gre_octets
        case Plane.KERNEL:
            room = esp_room_octets(underlay_mtu, cipher, outer_octets=outer_octets, udp=nat_traversal)
            return room - (20 if tunnel_mode else 0) - gre_octets


def underlay_octets(
    inner: int,
    cipher: Cipher,
    plane: Plane,
    *,
    outer_octets: int = 20,
    gre_key: bool = True,
    nat_traversal: bool = True,
    tunnel_mode: bool = True,
) -> int:
    """The packet on the underlay that an inner packet of this size becomes: tunnel_mtu_octets the other way round."""
    tunnel_mode = tunnel_mode or plane is Plane.USERSPACE
    udp = nat_traversal or plane is Plane.USERSPACE
    packet = inner + _gre_octets(gre_key=gre_key) + (20 if tunnel_mode else 0) + ESP_TRAILER_OCTETS
    padded = packet + -packet % cipher.block
    return outer_octets + (UDP_OCTETS if udp else 0) + ESP_HEADER_OCTETS + cipher.iv + padded + cipher.icv
