"""Real shapes: our own corpus with its expected text, and captures of real routers when they are at hand."""

import os
from pathlib import Path

import pytest
from codec_cases import WIRE, wire

from dmvpn.nhrp.captures import frames
from dmvpn.nhrp.frames import nhrp_in_frame
from dmvpn.nhrp.numbers import Kind
from dmvpn.nhrp.packet import decode
from dmvpn.nhrp.text import describe

FILES = sorted(WIRE.glob("*.txt"))
BESIDE = Path(__file__).parents[3] / "shared" / "captures"
CAPTURES = sorted(Path(os.environ.get("DMVPN_CAPTURES", BESIDE)).glob("*.pcap*"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_packet_of_the_corpus_says_what_is_written_beside_it(path: Path) -> None:
    packet = decode(wire(path.stem))
    assert describe(packet) == path.read_text().split("---\n")[1].splitlines()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_packet_of_the_corpus_is_encoded_to_the_same_octets(path: Path) -> None:
    assert decode(wire(path.stem)).encode() == wire(path.stem)


def test_the_corpus_has_every_kind() -> None:
    assert {decode(wire(path.stem)).kind for path in FILES} == set(Kind)


@pytest.mark.skipif(not CAPTURES, reason="no captures of real routers: set DMVPN_CAPTURES to a directory of them")
@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.stem)
def test_every_packet_of_a_real_router_is_encoded_to_the_same_octets(path: Path) -> None:
    found = [packet for packet in map(nhrp_in_frame, frames(path.name, path.read_bytes())) if packet]
    for packet in found:
        size = int.from_bytes(packet.octets[10:12], "big")
        assert decode(packet.octets).encode() == packet.octets[:size]
        assert packet.outer_source is not None
    assert found or "nhrp" not in path.name.lower()
