"""Decoders that we did not write read what we send: tshark every field, tcpdump the way there."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from oracle_packets import KEY, in_gre, overlay_in_ipv6, pcap, sent_by_a_network, whole_heads

from dmvpn.nhrp.cie import Cie
from dmvpn.nhrp.extensions import (
    EXTENSIONS,
    CiscoAuthentication,
    CiscoNat,
    ForwardTransit,
    ResponderAddress,
    ReverseTransit,
    type_of,
)
from dmvpn.nhrp.numbers import Kind
from dmvpn.nhrp.packet import Packet, decode

NO_TSHARK = pytest.mark.skipif(shutil.which("tshark") is None, reason="no tshark on this machine")
NO_TCPDUMP = pytest.mark.skipif(shutil.which("tcpdump") is None, reason="no tcpdump on this machine")
LIMIT_S = 120
# tshark reads Cisco's password as the SPI and source address of RFC 2332's extension, and misses an IPv6 address there.
MISREAD = "Incomplete Authentication Extension"
FIELDS = (
    "nhrp.hdr.op.type",
    "nhrp.hdr.hopcnt",
    "nhrp.hdr.pktsz",
    "nhrp.hdr.chksum.status",
    "nhrp.flags",
    "nhrp.reqid",
    "nhrp.err.code",
    "nhrp.src.nbma.addr",
    "nhrp.src.prot.addr",
    "nhrp.src.prot.addr_bytes",
    "nhrp.dst.prot.addr",
    "nhrp.dst.prot.addr_byets",  # tshark's own spelling
    "nhrp.ext.type",
    "nhrp.code",
    "nhrp.prefix",
    "nhrp.mtu",
    "nhrp.htime",
    "nhrp.pref",
    "nhrp.client.nbma.addr",
    "nhrp.client.prot.addr",
    "nhrp.client.prot.addr_bytes",
)
Fields = dict[str, list[str]]
CASES = [
    pytest.param((4, b"secret"), id="ipv4"),
    pytest.param((4, None), id="ipv4-without-password"),
    pytest.param((6, b"secret"), id="ipv6"),
    pytest.param((6, None), id="ipv6-without-password"),
]


@dataclass
class Corpus:
    packets: list[Packet]
    file: Path
    version: int
    has_password: bool

    @property
    def has_misreadings(self) -> bool:
        return self.version == 6 and self.has_password


@pytest.fixture(scope="module", params=CASES)
def corpus(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    version, password = request.param
    with pytest.MonkeyPatch.context() as patch:
        whole_heads(patch)
        if version == 6:
            overlay_in_ipv6(patch)
        sent = sent_by_a_network(authentication=password)
    file = tmp_path_factory.mktemp("oracle") / "sent.pcap"
    file.write_bytes(pcap([in_gre(octets, *way) for octets, way in sent.items()]))
    return Corpus([decode(octets) for octets in sent], file, version, password is not None)


def test_every_kind_is_in_the_corpus(corpus: Corpus) -> None:
    assert {packet.kind for packet in corpus.packets} == set(Kind)


def test_every_extension_is_in_the_corpus(corpus: Corpus) -> None:
    known = {extension.TYPE for extension in EXTENSIONS}
    without = set() if corpus.has_password else {CiscoAuthentication.TYPE}
    sent = {type_of(one) for packet in corpus.packets for one in packet.extensions}
    assert sent & known == known - without
    full = {type(one) for packet in corpus.packets for one in packet.extensions if getattr(one, "cies", ())}
    assert full == {ForwardTransit, ReverseTransit, CiscoNat}


# ---------------------------------------------------------------- tshark


@NO_TSHARK
def test_tshark_has_no_complaint(corpus: Corpus) -> None:
    complaints = [row["_ws.expert.message"] for row in tshark(corpus.file, ("_ws.expert.message",))]
    assert len(complaints) == len(corpus.packets)
    told = {complaint for row in complaints for complaint in row}
    assert told == ({MISREAD} if corpus.has_misreadings else set())


@NO_TSHARK
def test_tshark_reads_our_fields(corpus: Corpus) -> None:
    rows = tshark(corpus.file, FIELDS)
    assert len(rows) == len(corpus.packets)
    for packet, row in zip(corpus.packets, rows, strict=True):
        assert row == expected(packet)


def tshark(file: Path, names: tuple[str, ...]) -> list[Fields]:
    """Each packet's values of these fields, in the order of the packet."""
    wanted = [word for name in names for word in ("-e", name)]
    argv = ("tshark", "-r", str(file), "-T", "fields", "-E", "separator=|", "-E", "occurrence=a", *wanted)
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=LIMIT_S)
    lines = done.stdout.splitlines()
    cells = [line.split("|") for line in lines]
    return [{name: cell.split(",") if cell else [] for name, cell in zip(names, row, strict=True)} for row in cells]


def expected(packet: Packet) -> Fields:
    """Our own reading, in tshark's words. The offending packet inside an error comes behind the error's fields."""
    fields: Fields = {name: [] for name in FIELDS}
    _add(fields, packet)
    if packet.kind is Kind.ERROR_INDICATION:
        _add(fields, decode(packet.payload))
    return fields


def _add(fields: Fields, packet: Packet) -> None:
    wide = "_bytes" if packet.source_protocol.version == 6 else ""
    is_indication = packet.kind in (Kind.ERROR_INDICATION, Kind.TRAFFIC_INDICATION)
    size = len(packet.encode())
    fields["nhrp.hdr.op.type"].append(str(int(packet.kind)))
    fields["nhrp.hdr.hopcnt"].append(str(packet.hop_count))
    fields["nhrp.hdr.pktsz"].append(str(size))
    fields["nhrp.hdr.chksum.status"].append("1")  # good
    if not is_indication:
        fields["nhrp.flags"].append(f"0x{packet.flags:04x}")
        fields["nhrp.reqid"].append(f"0x{packet.request_id:08x}")
    if packet.kind is Kind.ERROR_INDICATION:
        fields["nhrp.err.code"].append(str(packet.error_code))
    fields["nhrp.src.nbma.addr"].append(str(packet.source_nbma))
    fields[f"nhrp.src.prot.addr{wide}"].append(_spelt(packet.source_protocol))
    destination = "nhrp.dst.prot.addr_byets" if wide else "nhrp.dst.prot.addr"
    fields[destination].append(_spelt(packet.destination_protocol))
    for cie in _entries(packet):
        fields["nhrp.code"].append(str(cie.code))
        fields["nhrp.prefix"].append(str(cie.prefix_length))
        fields["nhrp.mtu"].append(str(cie.mtu_octets))
        fields["nhrp.htime"].append(str(cie.holding_time_s))
        fields["nhrp.pref"].append(str(cie.preference))
        if cie.nbma is not None:
            fields["nhrp.client.nbma.addr"].append(str(cie.nbma))
        if cie.protocol is not None:
            fields[f"nhrp.client.prot.addr{wide}"].append(_spelt(cie.protocol))
    if packet.extensions:
        fields["nhrp.ext.type"] += [f"0x{type_of(one):04x}" for one in packet.extensions] + ["0x0000"]


def _entries(packet: Packet) -> Iterator[Cie]:
    yield from packet.cies
    for extension in packet.extensions:
        if isinstance(extension, ResponderAddress):
            yield from () if extension.cie is None else (extension.cie,)
        elif isinstance(extension, ForwardTransit | ReverseTransit | CiscoNat):
            yield from extension.cies


def _spelt(address: IPv4Address | IPv6Address) -> str:
    return str(address) if address.version == 4 else address.packed.hex()


# ---------------------------------------------------------------- tcpdump


@NO_TCPDUMP
def test_tcpdump_has_no_complaint(corpus: Corpus) -> None:
    """Its printer of NHRP is newer than the one of Debian 12, which names the GRE protocol and stops there."""
    argv = ("tcpdump", "-nn", "-vvv", "-r", str(corpus.file))
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=LIMIT_S)
    packets = re.findall(rf"GREv0, Flags \[key present\], key=0x{KEY:x}.*\n?.*(?:gre-proto-0x2001|NHRP)", done.stdout)
    assert len(packets) == len(corpus.packets)
    assert not re.search(r"\[\||invalid|malformed|bad |incorrect|wrong", done.stdout)
