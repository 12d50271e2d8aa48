"""Packets to try the codec with: made from the registries, so that a new kind or extension is covered at once."""

from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from hypothesis import strategies as st

from dmvpn.nhrp.candidates import Candidates
from dmvpn.nhrp.cie import Cie
from dmvpn.nhrp.events import Endpoint
from dmvpn.nhrp.extensions import (
    EXTENSIONS,
    CiscoAuthentication,
    CiscoNat,
    Extension,
    ForwardTransit,
    ResponderAddress,
    ReverseTransit,
    Unknown,
    VendorPrivate,
)
from dmvpn.nhrp.numbers import Kind
from dmvpn.nhrp.packet import INDICATIONS, Packet

WIRE = Path(__file__).parent / "wire"

U8 = st.integers(0, 0xFF)
U16 = st.integers(0, 0xFFFF)
U32 = st.integers(0, 0xFFFFFFFF)
ADDRESSES = {4: st.integers(0, 2**32 - 1).map(IPv4Address), 6: st.integers(0, 2**128 - 1).map(IPv6Address)}
SUBADDRESSES = st.binary(max_size=63)


def cies(nbma: int, protocol: int) -> st.SearchStrategy[Cie]:
    """Entries with addresses of these IP versions, or absent ones."""
    return st.builds(
        Cie,
        code=U8,
        prefix_length=st.one_of(st.integers(0, 32 if protocol == 4 else 128), st.just(255)),
        mtu_octets=U16,
        holding_time_s=U16,
        preference=U8,
        nbma=st.none() | ADDRESSES[nbma],
        nbma_subaddress=SUBADDRESSES,
        protocol=st.none() | ADDRESSES[protocol],
    )


ENDPOINTS = st.builds(Endpoint, ADDRESSES[4] | ADDRESSES[6], U16)
CANDIDATES = st.builds(
    Candidates,
    st.lists(ENDPOINTS, max_size=8).map(tuple),
    st.lists(ENDPOINTS, max_size=8).map(tuple),
    st.none() | ENDPOINTS,
)


def extensions(nbma: int, protocol: int) -> st.SearchStrategy[Extension]:
    """Any extension; KeyError for a registered one that has no row here."""
    entries = cies(nbma, protocol)
    several = st.lists(entries, max_size=3).map(tuple)
    rows: dict[type[Extension], st.SearchStrategy[Extension]] = {
        ResponderAddress: st.builds(ResponderAddress, st.none() | entries, st.booleans()),
        ForwardTransit: st.builds(ForwardTransit, several, st.booleans()),
        ReverseTransit: st.builds(ReverseTransit, several, st.booleans()),
        CiscoAuthentication: st.builds(CiscoAuthentication, st.binary(max_size=12), U32, st.booleans()),
        VendorPrivate: st.one_of(
            CANDIDATES.map(Candidates.to_vendor),
            st.builds(VendorPrivate, st.just(b"\0\0\x0c"), st.binary(max_size=20), st.booleans()),
        ),
        CiscoNat: st.builds(CiscoNat, several, st.booleans()),
    }
    registered = {extension.TYPE for extension in EXTENSIONS}
    unknown = st.integers(1, 0x3FFF).filter(lambda number: number not in registered)
    return st.one_of(
        *(rows[extension] for extension in EXTENSIONS),
        st.builds(Unknown, unknown, st.booleans(), st.binary(max_size=20)),
    )


@st.composite
def packets(draw: st.DrawFn, kind: Kind) -> Packet:
    nbma, protocol = draw(st.sampled_from([4, 6])), draw(st.sampled_from([4, 6]))
    indication = kind in INDICATIONS
    return Packet(
        kind=kind,
        hop_count=draw(U8),
        flags=draw(U16),
        request_id=0 if indication else draw(U32),
        source_nbma=draw(ADDRESSES[nbma]),
        source_protocol=draw(ADDRESSES[protocol]),
        destination_protocol=draw(ADDRESSES[protocol]),
        cies=() if indication else tuple(draw(st.lists(cies(nbma, protocol), max_size=3))),
        extensions=tuple(draw(st.lists(extensions(nbma, protocol), max_size=8))),
        source_subaddress=draw(SUBADDRESSES),
        error_code=draw(U16) if indication else 0,
        error_offset=draw(U16) if indication else 0,
        payload=draw(st.binary(max_size=80)) if indication else b"",
    )


ANY_PACKET = st.sampled_from(Kind).flatmap(packets)


def wire(name: str) -> bytes:
    """The octets of wire/NAME.txt."""
    head = (WIRE / f"{name}.txt").read_text().split("---\n")[0]
    return bytes.fromhex("".join(line for line in head.splitlines() if not line.startswith("#")))


def reseal(octets: bytes) -> bytes:
    """The same octets with a right length and checksum, so that what lies behind these checks is reached."""
    bare = octets[:10] + len(octets).to_bytes(2, "big") + b"\0\0" + octets[14:]
    total = sum(int.from_bytes(bare[at : at + 2].ljust(2, b"\0"), "big") for at in range(0, len(bare), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return bare[:12] + (0xFFFF - total).to_bytes(2, "big") + bare[14:]
