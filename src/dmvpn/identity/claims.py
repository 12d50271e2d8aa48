"""Claims: what a router's certificate lets it be and announce. Everything that a peer says is held against them.

The transport address stands in the RFC 3779 block (charon enforces it), the identity and the overlay addresses in
subjectAltName, the rest in an extension of ours. The chain must have been verified: charon does.

    DmvpnClaims ::= SEQUENCE {
        version   INTEGER (1),
        network   UTF8String,            -- name of the network
        router    UTF8String,            -- name of the router in the network file
        role      UTF8String ("hub" | "spoke"),
        asn       INTEGER (0..4294967295),
        prefixes  SEQUENCE OF OCTET STRING }   -- prefix length in one octet, then the whole address (4 or 16 octets)

The prefixes are not RFC 3779 blocks: charon would then take them for permitted selectors, and merging neighbours as
that RFC demands would lose the exact prefix that a filter needs.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Self

from cryptography import x509

from dmvpn.errors import WrongInput
from dmvpn.identity import addrblock, der
from dmvpn.identity.der import Malformed

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# An arc under 2.25 is a UUID (ITU-T X.667): ours for good without a registration, which the project does not have.
# UUID 9eb5a739-c88f-4f2d-a36c-7a94213959e1.
OID = "2.25.210961220805890837126899035020992272865"
VERSION = 1

PREFIXES_LIMIT = 512
ADDRESSES_LIMIT = 64
ASN_LARGEST = 0xFFFF_FFFF
# Letters, digits, hyphens and dots: such a name cannot add a line to a configuration or an option to a command.
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*", re.ASCII)
_NAME_LIMIT = 253


class Role(StrEnum):
    HUB = "hub"
    SPOKE = "spoke"


@dataclass(frozen=True, slots=True)
class Claims:
    """One router's claims. A hub's `prefixes` are the network's prefixes and overlays: it relays for all of them.

    Raises WrongInput for a name with other letters than a host name's, or for more than a certificate should carry.
    """

    network: str
    router: str
    role: Role
    transport: Address
    overlay: tuple[Address, ...]
    prefixes: tuple[Network, ...]
    asn: int

    def __post_init__(self) -> None:
        for kind, name in (("network", self.network), ("router", self.router)):
            check_name(kind, name)
        if not 0 <= self.asn <= ASN_LARGEST:
            raise WrongInput(f"claims of {self.router}", f"ASN {self.asn}", f"use 0 to {ASN_LARGEST}")
        if len(self.prefixes) > PREFIXES_LIMIT or len(self.overlay) > ADDRESSES_LIMIT:
            what = f"{len(self.prefixes)} prefixes and {len(self.overlay)} addresses"
            raise WrongInput(f"claims of {self.router}", what, f"claim at most {PREFIXES_LIMIT} and {ADDRESSES_LIMIT}")

    @classmethod
    def from_certificate(cls, certificate: bytes) -> Self:
        """Read the claims of a DER certificate whose chain is verified. Raises Malformed, saying what it lacks."""
        try:
            read = x509.load_der_x509_certificate(certificate)
            extensions = read.extensions
        except (ValueError, x509.DuplicateExtension) as error:
            raise Malformed(f"is no certificate: {error}") from error
        try:
            return cls._decode(
                der.Reader(_octets(extensions, OID, "DMVPN claims")),
                _transport(_octets(extensions, addrblock.OID, "RFC 3779 address block")),
                _overlay(extensions),
            )
        except WrongInput as fault:
            raise Malformed(f"{fault.where}: {fault.what}") from fault

    @classmethod
    def _decode(cls, outer: der.Reader, transport: Address, overlay: tuple[Address, ...]) -> Self:
        fields = outer.sequence()
        outer.end()
        version = fields.integer(0xFFFF)
        if version != VERSION:
            raise Malformed(f"claims of version {version}; this program reads version {VERSION}")
        network, router, role = fields.text(), fields.text(), fields.text()
        asn = fields.integer(ASN_LARGEST)
        prefixes = tuple(_prefix(octets) for octets in fields.sequence().elements(der.OCTET_STRING))
        fields.end()
        if role not in tuple(Role):
            raise Malformed(f"role {role!r}")
        return cls(network, router, Role(role), transport, overlay, prefixes, asn)

    def extension(self) -> bytes:
        """The value of our extension."""
        prefixes = (bytes((p.prefixlen,)) + p.network_address.packed for p in self.prefixes)
        return der.sequence(
            der.integer(VERSION),
            der.text(self.network),
            der.text(self.router),
            der.text(self.role),
            der.integer(self.asn),
            der.sequence(*(der.encode(der.OCTET_STRING, octets) for octets in prefixes)),
        )

    def permits_binding(self, protocol: Address) -> str | None:
        """None if this router may bind that overlay address to its transport address, else why not."""
        if protocol in self.overlay:
            return None
        return f"{self.router} claims {_list(self.overlay)}, not {protocol}"

    def permits_prefix(self, prefix: Network) -> str | None:
        """None if this router may announce or be the egress of the prefix, else why not."""
        if any(_within(prefix, claimed) for claimed in self.inner_sources()):
            return None
        return f"{self.router} claims {_list(self.prefixes)}, not {prefix}"

    def inner_sources(self) -> tuple[Network, ...]:
        """Where packets that this router sends into the overlay may come from."""
        return (*(ip_network(address) for address in self.overlay), *self.prefixes)


def identities(certificate: bytes) -> tuple[str, ...]:
    """The DNS names of a DER certificate: what its owner may call itself in IKE. Raises Malformed."""
    try:
        names = x509.load_der_x509_certificate(certificate).extensions
        found = names.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.DuplicateExtension, x509.ExtensionNotFound) as error:
        raise Malformed(f"has no name: {error}") from error
    return tuple(found.get_values_for_type(x509.DNSName))


def check_name(kind: str, name: str) -> None:
    """Raises WrongInput unless it is made like a host name, in lower case."""
    if len(name) > _NAME_LIMIT or not _NAME.fullmatch(name):
        raise WrongInput(kind, f"name {name!r}", "use lower-case letters, digits, hyphens and dots")


def _within(prefix: Network, claimed: Network) -> bool:
    if isinstance(prefix, IPv4Network):
        return isinstance(claimed, IPv4Network) and prefix.subnet_of(claimed)
    return isinstance(claimed, IPv6Network) and prefix.subnet_of(claimed)


def _list(values: tuple[object, ...]) -> str:
    return ", ".join(map(str, values[:8])) + (", ..." if len(values) > 8 else "") or "nothing"


def _octets(extensions: x509.Extensions, oid: str, called: str) -> bytes:
    try:
        extension = extensions.get_extension_for_oid(x509.ObjectIdentifier(oid))
    except x509.ExtensionNotFound as error:
        raise Malformed(f"has no {called}") from error
    return extension.value.public_bytes()


def _transport(octets: bytes) -> Address:
    blocks = addrblock.decode(octets)
    if len(blocks) != 1 or blocks[0].num_addresses != 1:
        raise Malformed(f"address blocks {_list(blocks)} where one transport address belongs")
    return blocks[0].network_address


def _overlay(extensions: x509.Extensions) -> tuple[Address, ...]:
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound as error:
        raise Malformed("has no subjectAltName") from error
    return tuple(a for a in names.get_values_for_type(x509.IPAddress) if isinstance(a, IPv4Address | IPv6Address))


def _prefix(octets: bytes) -> Network:
    length, address = octets[:1], octets[1:]
    if not length or len(address) not in (4, 16):
        raise Malformed(f"prefix {octets.hex()}")
    try:
        if len(address) == 4:
            return IPv4Network((address, length[0]))
        return IPv6Network((address, length[0]))
    except ValueError as error:
        raise Malformed(f"prefix {octets.hex()}: {error}") from error
