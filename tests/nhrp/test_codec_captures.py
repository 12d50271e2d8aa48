"""pcap, pcapng and hex text: what they hold, and where they are wrong."""

import struct

import pytest
from codec_cases import wire
from hypothesis import given
from hypothesis import strategies as st

from dmvpn.errors import WrongInput
from dmvpn.nhrp import captures
from dmvpn.nhrp.captures import frames
from dmvpn.nhrp.frames import ETHERNET, RAW, UNSAID, Frame

NHRP = wire("purge-request")
MAGICS = {"micro": 0xA1B2C3D4, "nano": 0xA1B23C4D}


def pcap(*packets: bytes, order: str = "<", magic: str = "micro", linktype: int = ETHERNET) -> bytes:
    octets = struct.pack(f"{order}IHHiIII", MAGICS[magic], 2, 4, 0, 0, 65535, linktype)
    for packet in packets:
        octets += struct.pack(f"{order}IIII", 1000, 500000, len(packet), len(packet)) + packet
    return octets


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    body += bytes(-len(body) % 4)
    length = struct.pack(f"{order}I", len(body) + 12)
    return struct.pack(f"{order}I", kind) + length + body + length


def section(order: str = "<") -> bytes:
    return block(0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(linktype: int = ETHERNET, snaplen: int = 0, options: bytes = b"", order: str = "<") -> bytes:
    return block(1, struct.pack(f"{order}HHI", linktype, 0, snaplen) + options, order)


def option(number: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}HH", number, len(value)) + value + bytes(-len(value) % 4)


def enhanced(packet: bytes, ticks: int = 0, at: int = 0, order: str = "<", captured: int | None = None) -> bytes:
    size = len(packet) if captured is None else captured
    return block(6, struct.pack(f"{order}IIIII", at, ticks >> 32, ticks & 0xFFFFFFFF, size, size) + packet, order)


def simple(packet: bytes, original: int | None = None) -> bytes:
    return block(3, struct.pack("<I", len(packet) if original is None else original) + packet)


@pytest.mark.parametrize("order", [pytest.param("<", id="little"), pytest.param(">", id="big")])
@pytest.mark.parametrize(
    ("magic", "time_s"), [pytest.param("micro", 1000.5, id="us"), pytest.param("nano", 1000.0005, id="ns")]
)
def test_a_pcap_file_of_any_kind(order: str, magic: str, time_s: float) -> None:
    octets = pcap(b"one", b"", order=order, magic=magic, linktype=RAW)
    assert list(frames("x", octets)) == [Frame(1, time_s, b"one", RAW), Frame(2, time_s, b"", RAW)]


def test_the_upper_bits_of_a_link_type_are_not_part_of_it() -> None:
    assert next(frames("x", pcap(b"one", linktype=0x40000000 | ETHERNET))).linktype == ETHERNET


@pytest.mark.parametrize("order", [pytest.param("<", id="little"), pytest.param(">", id="big")])
@pytest.mark.parametrize(
    ("options", "ticks", "time_s"),
    [
        pytest.param([], 1_500_000, 1.5, id="microseconds unless told"),
        pytest.param([(9, b"\x09")], 1_500_000_000, 1.5, id="a power of ten"),
        pytest.param([(9, b"\x8a")], 1536, 1.5, id="a power of two"),
        pytest.param([(9, b"\xff")], 0, 0.0, id="the finest power of two"),
        pytest.param([(9, b"\x7f")], 0, 0.0, id="the finest power of ten"),
        pytest.param([(2, b"eth0"), (9, b"\x03"), (0, b"")], 1500, 1.5, id="behind other options"),
        pytest.param([(9, b"\x03\x03")], 1_500_000, 1.5, id="an option of another length is not that option"),
        pytest.param([(2, b"x" * 5), (14, 100)], 1_500_000, 101.5, id="seconds to add"),
        pytest.param([(14, -2)], 1_500_000, None, id="before 1970"),
        pytest.param([(9, b"\0")], 253402300800, None, id="behind the year 9999"),
        pytest.param([(9, b"\0")], 253402300799, 253402300799.0, id="the last second of 9999"),
    ],
)
def test_a_pcapng_file_tells_its_time(
    order: str, options: list[tuple[int, bytes | int]], ticks: int, time_s: float | None
) -> None:
    told = b""
    for number, value in options:
        told += option(number, value if isinstance(value, bytes) else struct.pack(f"{order}q", value), order)
    octets = section(order) + interface(RAW, 0, told, order) + enhanced(b"abcde", ticks, order=order)
    assert list(frames("x", octets)) == [Frame(1, time_s, b"abcde", RAW)]


def test_a_pcapng_file_has_several_interfaces_sections_and_blocks_we_do_not_need() -> None:
    octets = section() + block(5, bytes(12)) + interface(ETHERNET) + interface(RAW)
    octets += enhanced(b"one", at=1) + simple(b"two")
    octets += section(">") + interface(RAW, order=">") + enhanced(b"three", order=">")
    found = [(frame.number, frame.octets, frame.linktype) for frame in frames("x", octets)]
    assert found == [(1, b"one", RAW), (2, b"two", ETHERNET), (3, b"three", RAW)]


def test_a_simple_packet_was_cut_to_the_snapshot_length() -> None:
    octets = section() + interface(snaplen=4) + simple(b"abcd", original=1500)
    assert list(frames("x", octets)) == [Frame(1, None, b"abcd", ETHERNET)]


@pytest.mark.parametrize(
    ("octets", "fault"),
    [
        pytest.param(pcap()[:20], "x: octet 0: a pcap header of 20 octets, not 24", id="pcap: header cut"),
        pytest.param(pcap(b"one")[:30], "x: octet 24: record 1 is cut short", id="pcap: record header cut"),
        pytest.param(
            pcap(b"one", b"two")[:-1], "x: octet 43: record 2 is cut short: 3 octets needed, 2 left", id="pcap: cut"
        ),
        pytest.param(
            pcap()[:24] + struct.pack("<IIII", 0, 0, 262145, 0),
            "x: octet 24: record 1 says it has 262145 octets, above 262144",
            id="pcap: record too long",
        ),
        pytest.param(section()[:8], "x: octet 0: a block is cut short: 12 octets needed, 8 left", id="pcapng: cut"),
        pytest.param(
            section()[:-4], "x: octet 0: a block is cut short: 28 octets needed, 24 left", id="pcapng: section cut"
        ),
        pytest.param(
            section()[:8] + b"abcd" + section()[12:],
            "x: octet 0: a section's byte order is told by 61626364, not 1a2b3c4d",
            id="pcapng: no byte order",
        ),
        pytest.param(
            section() + struct.pack("<III", 1, 13, 13) + bytes(4),
            "x: octet 28: a block says it has 13 octets",
            id="pcapng: length is no multiple of 4",
        ),
        pytest.param(
            section() + struct.pack("<III", 1, 8, 8), "x: octet 28: a block says it has 8 octets", id="pcapng: short"
        ),
        pytest.param(
            section() + struct.pack("<III", 1, 12, 16), "x: octet 28: a block's two lengths differ", id="pcapng: differ"
        ),
        pytest.param(
            section() + block(1, bytes(4)),
            "x: octet 28: an interface block of fewer than 8 octets",
            id="pcapng: interface cut",
        ),
        pytest.param(
            section() + interface(options=struct.pack("<HH", 9, 40)),
            "x: octet 28: option 9 of an interface is cut short",
            id="pcapng: option cut",
        ),
        pytest.param(
            section() + enhanced(b"one"),
            "x: octet 28: packet 1 came over interface 0, which is not described before it",
            id="pcapng: no interface",
        ),
        pytest.param(
            section() + simple(b"one"),
            "x: octet 28: packet 1 came over interface 0, which is not described before it",
            id="pcapng: simple, no interface",
        ),
        pytest.param(
            section() + interface() + block(6, bytes(16)), "x: octet 48: packet 1 is cut short", id="pcapng: packet cut"
        ),
        pytest.param(
            section() + interface() + block(3, b""), "x: octet 48: packet 1 is cut short", id="pcapng: simple cut"
        ),
        pytest.param(
            section() + interface() + enhanced(b"abcd", captured=5),
            "x: octet 48: record 1 is cut short: 5 octets needed, 4 left",
            id="pcapng: packet says too much",
        ),
        pytest.param(
            section() + interface() + simple(b"abcd", original=9),
            "x: octet 48: record 1 is cut short: 9 octets needed, 4 left",
            id="pcapng: simple says too much",
        ),
        pytest.param(
            section() + interface() * 1025, "x: octet 20508: more than 1024 interfaces", id="pcapng: interfaces"
        ),
        pytest.param(
            b"\x7fELF\xff",
            "x: octet 4: neither pcap, pcapng nor hex text; give a capture file or hex digits",
            id="a program",
        ),
        pytest.param(b"hello", "x:1:1: 'h' is not a hex digit", id="words"),
        pytest.param(b"00 01\n0x08, 0g", "x:2:8: 'g' is not a hex digit", id="a wrong digit"),
        pytest.param(b"# a comment\n00 01 0", "x:2:1: an odd number of hex digits", id="half an octet"),
        pytest.param(
            b"0x0000:  0001 0800\n0x0020:  0000\n",
            "x:2:1: offset 0x0020, but 4 octets came before; paste the dump whole",
            id="a line is missing",
        ),
        pytest.param(
            b"00000000  00 01  |..|\n*\n00000020  00 01  |..|\n",
            "x:3:1: offset 0x0020, but 0 octets came before; paste the dump whole",
            id="hexdump left lines out",
        ),
        pytest.param(
            b"0x0000:  0001 080", "x:1:1: the line is not offset and pairs of hex digits", id="half an octet in a dump"
        ),
        pytest.param(
            b"0x0000:  0001 xx", "x:1:1: the line is not offset and pairs of hex digits", id="words in a dump"
        ),
    ],
)
def test_a_wrong_file_says_where(octets: bytes, fault: str) -> None:
    with pytest.raises(WrongInput) as caught:
        list(frames("x", octets))
    assert str(caught.value) == fault


def test_frames_before_the_fault_are_still_read() -> None:
    reading = frames("x", pcap(b"one", b"two")[:-1])
    assert next(reading).octets == b"one"
    with pytest.raises(WrongInput):
        next(reading)


def test_a_file_above_the_limit_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captures, "FILE_LIMIT_OCTETS", 10)
    with pytest.raises(WrongInput, match="x: 24 octets, above 10; cut it with"):
        frames("x", pcap())
    monkeypatch.undo()
    monkeypatch.setattr(captures, "TEXT_LIMIT_OCTETS", 4)
    with pytest.raises(WrongInput, match="too long for hex text"):
        list(frames("x", b"00 01 02"))


@pytest.mark.parametrize(
    ("text", "packets"),
    [
        pytest.param("", [], id="nothing"),
        pytest.param("\n# only a comment\n\n", [], id="a comment"),
        pytest.param("000108", ["000108"], id="digits"),
        pytest.param("00:01:08 00-FF", ["00010800ff"], id="colons and dashes"),
        pytest.param("0x00, 0x01,\n0x08", ["000108"], id="as C writes it"),
        pytest.param("\\x00\\x01", ["0001"], id="as Python writes it"),
        pytest.param("0001.0800", ["00010800"], id="as IOS writes it"),
        pytest.param("000\n1 0\n8", ["000108"], id="wrapped within an octet"),
        pytest.param("0001 # the address family\n0800", ["00010800"], id="comments"),
        pytest.param("0001\n\n\n0800\n", ["0001", "0800"], id="a blank line begins another packet"),
        pytest.param("0001 08 00", ["00010800"], id="a first group that is no offset"),
        pytest.param("0001:0800", ["00010800"], id="a first group with a colon that is no offset"),
        pytest.param(
            "12:00:00.1 IP 192.0.2.1 > 192.0.2.2: GREv0\n\t0x0000:  4500 0054\n\t0x0004:  ff\n"
            "12:00:00.2 IP 192.0.2.1 > 192.0.2.2: GREv0\n\t0x0000:  4500\n",
            ["45000054ff", "4500"],
            id="tcpdump -x, two packets",
        ),
        pytest.param(
            "\t0x0000:  4500 0054 0001 4000 fd2f aaaa c000 020b  E..T..@../......\n"
            "\t0x0010:  c000 0201           ....\n",
            ["4500005400014000fd2faaaac000020bc0000201"],
            id="tcpdump -X",
        ),
        pytest.param(
            "00000000: 0001 0800 0000 0000 00ff 0044 27ab 0000  ...........D'...\n00000010: 0105 0400  ....\n",
            ["000108000000000000ff004427ab000001050400"],
            id="xxd",
        ),
        pytest.param(
            "00000000  00 01 08 00 00 00 00 00  00 ff 00 44 27 ab 00 00  |...........D'...|\n"
            "00000010  01 05                                             |..|\n"
            "00000012\n",
            ["000108000000000000ff004427ab00000105"],
            id="hexdump -C",
        ),
        pytest.param("000000 00 01 08\n000003 00\n000004\n", ["00010800"], id="od -A x -t x1"),
        pytest.param(
            "0000   45 00 00 54   E..T\n0004   aa bb      ..\n\n0000   45 00      E.\n",
            ["45000054aabb", "4500"],
            id="Wireshark, two packets",
        ),
        pytest.param("0000:\n", [""], id="an offset and nothing"),
        pytest.param("0x0000:  4500\n0x0000:  4600\n", ["4500", "4600"], id="offset 0 begins another packet"),
    ],
)
def test_hex_text_as_people_paste_it(text: str, packets: list[str]) -> None:
    found = list(frames("x", text.encode()))
    assert [frame.octets.hex() for frame in found] == packets
    assert all(frame.linktype == UNSAID and frame.time_s is None for frame in found)
    assert [frame.number for frame in found] == list(range(1, len(packets) + 1))


@given(st.binary(max_size=200))
def test_any_octets_are_frames_or_wrong_input(octets: bytes) -> None:
    for start in (b"", pcap()[:24], section(), section() + interface()):
        _read(start + octets)


@given(st.data())
def test_a_capture_that_was_changed_anywhere_is_frames_or_wrong_input(data: st.DataObject) -> None:
    whole = data.draw(
        st.sampled_from(
            [
                pcap(NHRP, NHRP),
                section() + interface(options=option(9, b"\x06")) + enhanced(NHRP) + simple(NHRP),
                b"\t0x0000:  4500 0054\n\t0x0004:  ff\n",
                b"00000000  00 01 08  |...|\n00000003\n",
            ]
        )
    )
    octets = bytearray(whole)
    for at, value in data.draw(
        st.dictionaries(st.integers(0, len(octets) - 1), st.integers(0, 255), max_size=5)
    ).items():
        octets[at] = value
    _read(bytes(octets))


def _read(octets: bytes) -> None:
    try:
        for frame in frames("x", octets):
            assert len(frame.octets) <= len(octets)
    except WrongInput as fault:
        where = fault.where
    else:
        where = "x"
    assert where.startswith("x")
