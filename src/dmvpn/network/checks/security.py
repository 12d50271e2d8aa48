"""Proposals, secrets and claims."""

from collections.abc import Iterator, Mapping

from dmvpn.errors import Problem
from dmvpn.network.clouds import NHRP_SECRET_OCTETS
from dmvpn.network.model import ClaimsFrom, Network, Ports
from dmvpn.network.mtu import CIPHERS, INTEGRITY_OCTETS, cipher_of, is_aead
from dmvpn.network.places import Place, members, places
from dmvpn.network.plan import Protocol
from dmvpn.network.vouched import IN_CLEAR, is_encrypted
from dmvpn.network.wording import nearest

# MODP of 1024 bits and below, hashes that collide, ciphers of 64-bit blocks.
WEAK = frozenset(
    {"des", "3des", "md5", "prfmd5", "modp768", "modp1024", "modp1024s160"}
    | {f"blowfish{bits}" for bits in ("", 128, 192, 256)}
    | {"cast128"}
)

WEAK_IN_IKE = frozenset({"sha1", "sha", "prfsha1"})


def esp_proposals(network: Network) -> Iterator[Problem]:
    """The MTU depends on the cipher, so every cipher must be a known one."""
    if IN_CLEAR in network.crypto:
        yield Problem(("crypto", IN_CLEAR), "none means no IPsec at all", "give the profile another name")
    for name, profile in network.crypto.items():
        key = ("crypto", name, "esp")
        word = profile.esp.split("-")[0]
        if word not in CIPHERS:
            near = nearest(word, tuple(CIPHERS))
            fix = f"did you mean {near}?" if near else "write aes256gcm16, aes128gcm16 or chacha20poly1305"
            yield Problem(key, f"{word} is not an ESP cipher we know", fix)
            continue
        try:
            cipher_of(profile.esp)
        except KeyError:
            what = f"{profile.esp} does not protect integrity"
            words = ", ".join(INTEGRITY_OCTETS)
            yield Problem(key, what, f"use an AEAD cipher such as aes256gcm16, or add one of {words}")


def weak_proposals(network: Network) -> Iterator[Problem]:
    """RFC 8247 and RFC 8221 advise against them, or (HMAC-SHA1 in IKE) keep them for old peers alone."""
    for name, profile in network.crypto.items():
        for word, proposal in (("ike", profile.ike), ("esp", profile.esp)):
            known = WEAK if word == "esp" else WEAK | WEAK_IN_IKE
            weak = [part for part in proposal.lower().split("-") if part in known]
            if weak:
                fix = "use aes256gcm16-prfsha384-ecp384 (esp: aes256gcm16) unless a peer cannot"
                yield Problem(
                    ("crypto", name, word), f"{', '.join(weak)}: too weak for what is built today", fix, warning=True
                )


def ours_use_aead(network: Network) -> Iterator[Problem]:
    for name, cloud in network.clouds.items():
        profile = network.crypto.get(cloud.crypto or "")
        if profile is None or profile.esp.split("-")[0] not in CIPHERS or is_aead(profile.esp):
            continue
        if any(member.place.ours for member in members(network, name)):
            what = f"cloud {name} uses {profile.esp}, which is no AEAD cipher"
            yield Problem(("clouds", name, "crypto"), what, "use aes256gcm16 unless a peer cannot", warning=True)


def one_profile_a_router(network: Network) -> Iterator[Problem]:
    """One SA between two of our routers carries all clouds they share."""
    reported: set[str] = set()
    for place in places(network):
        known = [name for name in place.router.tunnels if name in network.clouds]
        clouds = [name for name in known if is_encrypted(network.clouds[name])]
        for name in clouds[1:] if place.ours else ():
            first, other = network.clouds[clouds[0]].crypto, network.clouds[name].crypto
            if first != other and name not in reported:
                reported.add(name)
                what = f"{place.name} is in {clouds[0]} and {name}, which have different crypto"
                fix = f"write the same profile: one SA carries both, and it is {first or 'the built-in one'}"
                yield Problem(("clouds", name, "crypto"), what, fix)


def claims(network: Network) -> Iterator[Problem]:
    for place in places(network):
        from_file = place.router.claims.from_ is ClaimsFrom.FILE
        if not place.ours and not from_file:
            what = f"the certificate of a {place.router.platform} router cannot carry claims"
            yield Problem((*place.key, "claims"), what, "write claims: {from: file}")
        if place.ours and from_file:
            yield Problem(
                (*place.key, "claims", "from"), "our own routers prove claims by certificate", "remove the line"
            )


def secret_lengths(network: Network, secrets: Mapping[str, bytes]) -> Iterator[Problem]:
    """Of the secrets that are known; Cisco takes eight octets and some peers cut longer ones silently."""
    for name, cloud in network.clouds.items():
        if cloud.nhrp.secret is None or cloud.nhrp.secret.file not in secrets:
            continue
        octets = len(secrets[cloud.nhrp.secret.file].rstrip(b"\r\n"))
        if not 1 <= octets <= NHRP_SECRET_OCTETS:
            key = ("clouds", name, "nhrp", "secret", "file")
            yield Problem(key, f"the NHRP secret has {octets} octets", f"use 1 to {NHRP_SECRET_OCTETS}, as Cisco does")


def network_ports(network: Network) -> Iterator[Problem]:
    """charon has a socket for each; a foreign router knows no other than those that everybody uses."""
    if network.ports.ike == network.ports.ike_nat:
        yield Problem(
            ("ports", "ike-nat"), f"ike and ike-nat are both {network.ports.ike}", "write two different ports"
        )
    for place in places(network):
        if not place.ours and _is_encrypted(network, place):
            yield from _usual_ports(network, place, ("ike", "ike_nat"))
    for name, cloud in network.clouds.items():
        for member in members(network, name):
            if not member.place.ours and cloud.routing is Protocol.BGP:
                yield from _usual_ports(network, member.place, ("bgp",))


def _usual_ports(network: Network, place: Place, keys: tuple[str, ...]) -> Iterator[Problem]:
    for key in keys:
        given, usual = getattr(network.ports, key), getattr(Ports(), key)
        if given != usual:
            what = f"{place.name} is a {place.router.platform} router, which knows no port but {usual}"
            yield Problem(("ports", key.replace("_", "-")), what, f"write {usual}, or remove the line")


def _is_encrypted(network: Network, place: Place) -> bool:
    return any(is_encrypted(network.clouds[name]) for name in place.router.tunnels if name in network.clouds)


CHECKS = (esp_proposals, weak_proposals, ours_use_aead, one_profile_a_router, claims, network_ports)
