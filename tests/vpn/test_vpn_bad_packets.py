"""Bad NHRP inside the tunnel, from a router with a good certificate: counted, shown, and nothing falls over."""

import random
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address, ip_address
from pathlib import Path

import pytest
from vpn_lab import Vpn, until

from dmvpn.lab import capture
from dmvpn.linux.neighbours import LinkForm
from dmvpn.linux.nhrp_socket import NhrpSocket
from dmvpn.nhrp import captures, frames
from dmvpn.nhrp.cie import Cie
from dmvpn.nhrp.extensions import ForwardTransit
from dmvpn.nhrp.numbers import Kind
from dmvpn.nhrp.packet import KIND_AT, Packet, decode

NETWORK = "trio"
pytestmark = pytest.mark.lab

DEVICE = "trio-blue"
HUB, PAR, LYO = (IPv4Address(f"10.255.1.{last}") for last in (1, 12, 13))
HUB_NBMA, PAR_NBMA, LYO_NBMA = (IPv4Address(f"100.64.0.{last}") for last in (1, 12, 13))


def entry(protocol: IPv4Address, nbma: IPv4Address) -> Cie:
    return Cie(
        0, 32, mtu_octets=1372, holding_time_s=600, preference=0, nbma=nbma, nbma_subaddress=b"", protocol=protocol
    )


REGISTRATION = Packet(
    kind=Kind.REGISTRATION_REQUEST,
    hop_count=255,
    flags=0,
    request_id=4711,
    source_nbma=PAR_NBMA,
    source_protocol=PAR,
    destination_protocol=HUB,
    cies=(entry(PAR, PAR_NBMA),),
)
RESOLUTION = replace(REGISTRATION, kind=Kind.RESOLUTION_REQUEST, destination_protocol=ip_address("10.1.13.99"), cies=())
ANSWER = replace(REGISTRATION, kind=Kind.REGISTRATION_REPLY, source_protocol=HUB, destination_protocol=PAR)
WIRE = REGISTRATION.encode()


def with_octet(at: int, value: int) -> bytes:
    return WIRE[:at] + bytes((value,)) + WIRE[at + 1 :]


BAD = [
    pytest.param(WIRE[:20], "nhrp malformed", id="a fixed header and no more"),
    pytest.param(b"\0" * 1372, "nhrp version", id="nothing but zeros"),
    pytest.param(WIRE[:30], "nhrp malformed", id="cut short"),
    pytest.param(with_octet(20, 200), "nhrp checksum", id="changed on the way"),
    pytest.param(with_octet(16, 9), "nhrp version", id="another version"),
    pytest.param(with_octet(17, 99), "nhrp unsupported", id="a kind that is not there"),
    pytest.param(with_octet(10, 0xFF), "nhrp oversized", id="says that it is huge"),
    pytest.param(replace(RESOLUTION, hop_count=1).encode(), "nhrp hop-count", id="its hops are over"),
    pytest.param(
        RESOLUTION.with_extension(ForwardTransit((entry(HUB, HUB_NBMA),))).encode(),
        "nhrp loop",
        id="was here before",
    ),
    pytest.param(ANSWER.encode(), "nhrp unsolicited", id="an answer to nothing"),
    pytest.param(
        replace(RESOLUTION, kind=Kind.TRAFFIC_INDICATION, request_id=0, payload=bytes(64)).encode(),
        "nhrp unsupported",
        id="an indication to the hub",
    ),
    pytest.param(
        replace(RESOLUTION, kind=Kind.ERROR_INDICATION, request_id=0, destination_protocol=HUB, payload=WIRE).encode(),
        "nhrp unsolicited",
        id="an error about nothing",
    ),
]


def _send(vpn: Vpn, router: str, to: IPv4Address, *packets: bytes) -> None:
    def send() -> None:
        door = NhrpSocket(DEVICE, LinkForm.TAP)
        for octets in packets:
            door.send(octets, to)
        door.close()

    vpn.node(router).call(send)


@pytest.fixture(autouse=True)
def _all_live_on(vpn: Vpn) -> Iterator[None]:
    pids = {router: vpn.services(router)["dmvpnd"].pid for router in vpn.routers()}
    yield
    assert {router: vpn.services(router)["dmvpnd"].pid for router in vpn.routers()} == pids
    vpn.settle()
    vpn.assert_no_traceback()


@pytest.mark.parametrize(("octets", "name"), BAD)
def test_a_bad_packet_is_counted_by_its_reason(vpn: Vpn, octets: bytes, name: str) -> None:
    before = vpn.drops("hq1").get(name, 0)
    _send(vpn, "par1", HUB_NBMA, octets)
    until(f"{name} is counted", lambda: vpn.drops("hq1").get(name, 0) == before + 1, within_s=5)
    assert f"{name} {before + 1}" in vpn.dmvpn("hq1", "status").text


def test_a_registration_played_again_changes_nothing(vpn: Vpn) -> None:
    def bindings() -> list[tuple[str, str, str]]:
        return [(row.protocol, row.nbma, row.state) for row in vpn.status("hq1").cache]

    before = bindings()
    answered = vpn.status("hq1").clouds[0].counters["sent registration_reply"]
    _send(vpn, "par1", HUB_NBMA, *(WIRE,) * 50)
    count = partial(vpn.status, "hq1")
    until("all are seen", lambda: count().clouds[0].counters["received registration_request"] >= 50, within_s=5)
    assert bindings() == before
    assert vpn.status("hq1").clouds[0].counters["sent registration_reply"] - answered <= 50


def test_an_answer_played_again_is_a_duplicate(vpn: Vpn) -> None:
    vpn.forget()
    with capture.in_memory() as output:
        wire = capture.start(vpn.node("par1"), DEVICE, output)
        with vpn.flow("paris-pc", "lyon-pc") as flow:
            flow.until("direct", within_s=20)
        wire.stop()
        answers = list(_answers(Path(f"/proc/self/fd/{output.fileno()}").read_bytes()))
    assert answers

    def refused() -> int:
        drops = vpn.drops("par1")
        return sum(drops.get(f"nhrp {reason}", 0) for reason in ("duplicate", "unsolicited"))

    before = refused()
    shortcuts = vpn.shortcuts()
    _send(vpn, "lyo1", PAR_NBMA, *answers)
    until("the replay is counted", lambda: refused() >= before + len(answers), within_s=5)
    assert vpn.shortcuts() == shortcuts


def _answers(octets: bytes) -> Iterator[bytes]:
    """What lyo1 answered par1."""
    for frame in captures.frames("capture", octets):
        found = frames.nhrp_in_frame(frame)
        if found is not None and found.octets[KIND_AT] == Kind.RESOLUTION_REPLY:
            packet = decode(found.octets)
            if (packet.source_protocol, packet.cies[0].protocol) == (PAR, LYO):
                yield found.octets


@pytest.mark.parametrize(
    ("router", "to"), [pytest.param("par1", HUB_NBMA, id="hub"), pytest.param("hq1", PAR_NBMA, id="spoke")]
)
def test_thousands_of_damaged_packets_do_no_harm(vpn: Vpn, router: str, to: IPv4Address) -> None:
    victim = {"par1": "hq1", "hq1": "par1"}[router]
    source = random.Random(2332)
    kinds = [
        replace(REGISTRATION, kind=kind).encode() if kind.name.endswith(("REQUEST", "REPLY")) else WIRE for kind in Kind
    ]
    before = sum(vpn.drops(victim).values())
    _send(vpn, router, to, *(_damaged(source, source.choice(kinds)) for _ in range(3000)))
    until("hundreds are counted", lambda: sum(vpn.drops(victim).values()) > before + 300, within_s=20)
    with vpn.flow("paris-pc", "hq-pc") as flow:
        flow.until("direct", within_s=10)
        assert flow.lost() == []


def _damaged(source: random.Random, octets: bytes) -> bytes:
    changed = bytearray(octets)
    for _ in range(source.randint(1, 6)):
        changed[source.randrange(len(changed))] = source.randrange(256)
    return bytes(changed[: source.randint(1, len(changed))] if source.random() < 0.2 else changed)
