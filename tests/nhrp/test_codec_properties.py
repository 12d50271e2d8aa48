"""What must hold for every packet: round trip, a cut at every octet, any mutation."""

import json

import pytest
from codec_cases import ANY_PACKET, CANDIDATES, WIRE, packets, reseal, wire
from hypothesis import given
from hypothesis import strategies as st

from dmvpn.nhrp.candidates import Candidates
from dmvpn.nhrp.checksum import checksum
from dmvpn.nhrp.cursor import Malformed
from dmvpn.nhrp.numbers import Kind
from dmvpn.nhrp.packet import Packet, decode, decode_head
from dmvpn.nhrp.text import as_json, describe

NAMES = sorted(path.stem for path in WIRE.glob("*.txt"))


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_comes_back_as_it_was_sent(kind: Kind) -> None:
    @given(packets(kind))
    def check(packet: Packet) -> None:
        octets = packet.encode()
        assert decode(octets) == packet
        assert decode(octets + b"padding") == packet
        assert checksum(octets) == 0
        assert describe(packet)
        assert json.dumps(as_json(packet))

    check()


@pytest.mark.parametrize("name", NAMES)
def test_a_packet_cut_at_any_octet_is_malformed(name: str) -> None:
    octets = wire(name)
    for end in range(len(octets)):
        with pytest.raises(Malformed):
            decode(octets[:end])


@pytest.mark.parametrize("name", NAMES)
def test_a_packet_that_admits_its_cut_is_read_to_the_octet_or_malformed(name: str) -> None:
    octets = wire(name)
    for end in range(20, len(octets)):
        _decode_or_malformed(reseal(octets[:end]))


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_octet_breaks_the_checksum_or_an_earlier_check(name: str) -> None:
    octets = wire(name)
    for at in range(len(octets)):
        with pytest.raises(Malformed):
            decode(octets[:at] + bytes((octets[at] ^ 0x5A,)) + octets[at + 1 :])


@given(st.sampled_from(NAMES), st.data())
def test_mutations_behind_a_right_checksum_never_raise_anything_else(name: str, data: st.DataObject) -> None:
    octets = bytearray(wire(name))
    for at, value in data.draw(
        st.dictionaries(st.integers(0, len(octets) - 1), st.integers(0, 255), max_size=6)
    ).items():
        octets[at] = value
    _decode_or_malformed(reseal(bytes(octets)))


@given(ANY_PACKET, st.data())
def test_any_packet_with_octets_taken_out_never_raises_anything_else(packet: Packet, data: st.DataObject) -> None:
    octets = packet.encode()
    start = data.draw(st.integers(20, len(octets)))
    end = data.draw(st.integers(start, len(octets)))
    _decode_or_malformed(reseal(octets[:start] + octets[end:]))


@given(st.binary(max_size=200))
def test_any_octets_decode_or_are_malformed(octets: bytes) -> None:
    _decode_or_malformed(octets)
    if len(octets) >= 20:
        likely = b"\0\1\x08\0" + octets[4:16] + b"\1" + bytes((octets[17] % 10,)) + b"\4\0" + octets[20:]
        _decode_or_malformed(reseal(likely))


@given(CANDIDATES)
def test_candidates_come_back_as_they_were_sent(candidates: Candidates) -> None:
    assert Candidates.from_vendor(candidates.to_vendor()) == candidates


def _decode_or_malformed(octets: bytes) -> None:
    """Whatever decodes can be encoded, shown and asked for its candidates; and says the same again."""
    try:
        packet = decode(octets)
    except Malformed:
        return
    packet.candidates()
    assert decode(packet.encode()) == packet
    assert describe(packet)
    assert json.dumps(as_json(packet))
    assert decode_head(octets).source_nbma == packet.source_nbma
