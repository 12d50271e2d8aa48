"""Routers that are more than their certificates let them be, before two hubs: dropped, counted, shown; others go on.

A stream between two honest sites runs all the while, and loses nothing. No hub has a spoke's site in its file.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import IPv4Address, ip_address
from pathlib import Path

import claims_lab
import pytest
from claims_lab import HUBS
from vpn_lab import Flow, Vpn, until

from dmvpn.daemon.control import HubRow
from dmvpn.lab import capture
from dmvpn.linux.neighbours import LinkForm
from dmvpn.linux.nhrp_socket import NhrpSocket
from dmvpn.nhrp import captures, frames
from dmvpn.nhrp.cie import Cie
from dmvpn.nhrp.extensions import CiscoNat
from dmvpn.nhrp.numbers import Kind
from dmvpn.nhrp.packet import KIND_AT, Packet, decode

pytestmark = pytest.mark.lab

DEVICE = "claims-blue"
HQ, PAR, LYO, OSL, ROM = (IPv4Address(f"10.255.1.{last}") for last in (1, 12, 13, 14, 17))
NBMA = {own: IPv4Address(f"100.64.1.{int(own) & 0xFF}") for own in (HQ, PAR, LYO, OSL, ROM)}
OVERLAY = {"hq1": HQ, "res1": IPv4Address("10.255.1.2"), "lyo1": LYO}
NOT_AUTHORISED = "nhrp not-authorised"


@pytest.fixture(scope="module")
def vpn() -> Iterator[Vpn]:
    with claims_lab.held("impostors") as vpn:
        yield vpn


@pytest.fixture(scope="module")
def going_on(vpn: Vpn) -> Iterator[Flow]:
    """Lyon to Oslo, direct: their routers have heard of each other by the hubs alone."""
    with vpn.flow("lyon-pc", "oslo-pc") as flow:
        flow.until("direct", within_s=30)
        yield flow


@pytest.fixture(autouse=True)
def _nobody_suffers(vpn: Vpn, going_on: Flow) -> Iterator[None]:
    going_on.mark()
    before = {hub: _bindings(vpn, hub) for hub in HUBS}
    yield
    assert going_on.lost() == []
    assert all(packet.direct for packet in going_on.stream.stretch())
    assert {hub: _bindings(vpn, hub) for hub in HUBS} == before


def _bindings(vpn: Vpn, hub: str) -> set[tuple[str, str]]:
    """Of the honest ones, as they registered."""
    honest = {str(LYO), str(OSL), str(PAR)}
    rows = (row for row in vpn.status(hub).cache if row.protocol in honest)
    return {(row.protocol, row.nbma) for row in rows if row.attributes.startswith("D")}


def _counted(vpn: Vpn, router: str, reason: str, before: int) -> None:
    """Once more than before, and in what an operator reads."""
    until(f"{router} counts {reason}", lambda: vpn.drops(router).get(reason, 0) > before, within_s=20)
    assert reason in vpn.dmvpn(router, "status").text


# ---------------------------------------------------------------- who is not in any hub's file


@pytest.mark.parametrize("hub", HUBS)
def test_a_hub_serves_a_spoke_by_its_certificate_alone(vpn: Vpn, hub: str) -> None:
    assert "osl1" not in vpn.read(hub, "/etc/dmvpn/claims/current/network.yaml")
    assert "osl1" not in vpn.read("lyo1", "/etc/dmvpn/claims/current/network.yaml")
    row = vpn.peer(hub, "osl1")
    assert row is not None
    assert (row.kind, row.state.value, row.bgp) == ("client", "direct", "Established")
    assert row.prefixes == ("10.1.14.0/24",)
    file = vpn.read(hub, "/run/dmvpn/claims/bgpd.conf")
    assert " neighbor 10.255.1.14 remote-as 65014\n" in file
    assert "listen range" not in file


def test_what_was_learned_is_no_change_and_no_drift_but_a_hand_edit_is(vpn: Vpn) -> None:
    plan = vpn.json("hq1", "plan")
    assert (plan["files"], plan["drifted"]) == ([], [])
    path = "/run/dmvpn/claims/bgpd.conf"
    text = vpn.read("hq1", path)
    vpn.write("hq1", path, text.replace("remote-as 65014", "remote-as 65077"))
    assert vpn.json("hq1", "plan")["drifted"] == [path]
    vpn.reload_service("hq1", "learned")
    assert vpn.read("hq1", path) == text
    assert "remote-as 65077" in vpn.read("hq1", f"{path}.edited")
    assert vpn.json("hq1", "plan")["drifted"] == []


def test_a_hand_edit_of_what_was_learned_is_shown_and_kept_as_any_other(vpn: Vpn) -> None:
    path = "/run/dmvpn/claims/bgpd.conf"
    text = vpn.read("hq1", path)
    vpn.write("hq1", path, text.replace("remote-as 65014", "remote-as 65077"))
    assert f"edited by hand since it was applied: {path}" in vpn.dmvpn("hq1", "status").text
    differs = vpn.dmvpn("hq1", "diff").text.splitlines()
    assert differs[:2] == [f"--- a{path}", f"+++ b{path}"]
    changed = [line for line in differs[2:] if line[0] in "+-"]
    assert changed == ["- neighbor 10.255.1.14 remote-as 65014", "+ neighbor 10.255.1.14 remote-as 65077"]
    refused = vpn.dmvpn("hq1", "apply")
    assert refused.status == 1
    assert f"{path}: edited by hand since it was applied".encode() in refused.stderr
    done = vpn.dmvpn("hq1", "apply", "--discard-edits")
    assert done.status == 0, done
    kept = done.text.splitlines()[0].removeprefix("what was edited by hand is kept in ")
    assert "remote-as 65077" in vpn.read("hq1", f"{kept}/run/bgpd.conf")
    assert vpn.read("hq1", path) == text
    assert "edited by hand" not in vpn.dmvpn("hq1", "status").text
    assert vpn.dmvpn("hq1", "diff").text == "nothing was edited by hand\n"


def _bgp(vpn: Vpn, router: str, neighbour: str) -> dict[str, dict[str, object]]:
    command = f"show bgp neighbors {neighbour} json"
    found: dict[str, dict[str, object]] = vpn.vtysh(router, command)
    return found


# ---------------------------------------------------------------- files that say more than certificates


@pytest.mark.parametrize("hub", HUBS)
def test_an_overlay_address_of_another_is_not_registered(vpn: Vpn, hub: str) -> None:
    assert f"{LYO} refused: hel1 claims 10.255.1.99" in vpn.logs(hub)["dmvpn-claims-dmvpnd.log"]
    _counted(vpn, hub, NOT_AUTHORISED, 0)
    until(f"hel1 is refused by {hub}", lambda: _hub(vpn, "hel1", hub).state == "down", within_s=30)
    assert vpn.dmvpn("hel1", "status").status == 1


def _hub(vpn: Vpn, router: str, hub: str) -> HubRow:
    return next(row for row in vpn.status(router).hubs if row.router == hub)


@pytest.mark.parametrize("hub", HUBS)
def test_another_as_than_the_certificates_gets_no_session(vpn: Vpn, hub: str) -> None:
    _counted(vpn, hub, "bgp asn", 0)
    assert not vpn.run(hub, "ip", "route", "show", "10.1.16.0/24").text
    until("it is said", partial(_is_said, vpn, hub, "BGP with 10.255.1.16 "), within_s=30)


def _is_said(vpn: Vpn, router: str, words: str) -> bool:
    return any(words in trouble.what for trouble in vpn.status(router).troubles)


def test_a_spoke_by_its_certificate_is_nobodys_hub(vpn: Vpn) -> None:
    _counted(vpn, "osl1", "ike role", 0)
    row = _hub(vpn, "osl1", "rom1")
    assert (row.state, row.why) == ("connecting", "its certificate makes it the spoke rom1, not the hub rom1")
    assert "its certificate makes it the spoke rom1" in vpn.dmvpn("osl1", "status").text
    assert _bgp(vpn, "osl1", str(ROM))[str(ROM)]["connectionsEstablished"] == 0


@pytest.mark.parametrize("hub", HUBS)
def test_of_a_would_be_hub_a_hub_takes_its_own_network_only(vpn: Vpn, hub: str) -> None:
    until("its session", lambda: _bgp(vpn, hub, str(ROM))[str(ROM)]["bgpState"] == "Established", within_s=20)
    taken = vpn.vtysh(hub, f"show bgp ipv4 unicast neighbors {ROM} routes json")["routes"]
    assert set(taken) == {"10.1.17.0/24"}


# ---------------------------------------------------------------- what a router with a good certificate tries


def test_a_network_of_another_is_not_taken_from_bgp(vpn: Vpn) -> None:
    lies = ("10.1.14.0/24", "10.1.14.128/25", "10.1.13.10/32", "10.1.0.0/24", "10.255.1.13/32", "0.0.0.0/0")
    before = {hub: vpn.drops(hub).get("bgp prefix", 0) for hub in HUBS}
    words = ["conf t", "no ip prefix-list blue-to-hubs", "ip prefix-list blue-to-hubs permit 0.0.0.0/0 le 32"]
    words += ["router bgp 65012", "address-family ipv4 unicast", *(f"network {prefix}" for prefix in lies)]
    vpn.configure("par1", words)
    try:
        for hub in HUBS:
            until(f"{hub} counts", partial(_has_denied, vpn, hub, before[hub] + len(lies)), within_s=20)
            assert "bgp prefix" in vpn.dmvpn(hub, "status").text
            taken = vpn.vtysh(hub, f"show bgp ipv4 unicast neighbors {PAR} routes json")["routes"]
            assert set(taken) == {"10.1.12.0/24"}
            assert "via 10.255.1.14 " in vpn.run(hub, "ip", "route", "get", "10.1.14.200").text
    finally:
        vpn.configure("par1", [*words[:1], *words[3:5], *(f"no network {prefix}" for prefix in lies)])


def _has_denied(vpn: Vpn, hub: str, least: int) -> bool:
    return vpn.drops(hub).get("bgp prefix", 0) >= least


def test_an_inner_source_of_another_is_dropped_by_whom_it_reaches(vpn: Vpn) -> None:
    if vpn.status("hq1").clouds[0].plane != "userspace":
        pytest.skip("the kernel plane holds a peer to its transport address")
    before = vpn.drops("hq1").get("gre source", 0)
    vpn.run("par1", "ip", "address", "add", "10.1.13.66/32", "dev", "lo")
    assert vpn.run("par1", "ping", "-c", "3", "-i", "0.2", "-W", "1", "-I", "10.1.13.66", "10.1.0.10").status == 1
    vpn.run("par1", "ip", "address", "del", "10.1.13.66/32", "dev", "lo")
    _counted(vpn, "hq1", "gre source", before + 2)
    assert vpn.run("par1", "ping", "-c", "1", "-W", "2", "10.1.0.10").status == 0


def _entry(protocol: IPv4Address, nbma: IPv4Address, *, length: int = 32) -> Cie:
    return Cie(
        0, length, mtu_octets=1372, holding_time_s=600, preference=0, nbma=nbma, nbma_subaddress=b"", protocol=protocol
    )


def _packet(kind: Kind, source: IPv4Address, nbma: IPv4Address, to: str, *cies: Cie) -> Packet:
    return Packet(kind, 255, 0, 4711, nbma, source, ip_address(to), cies)


def _indication(to: IPv4Address) -> Packet:
    """As a hub's: what you send from Lyon to Oslo goes a long way."""
    head = bytes.fromhex("45000054000040004001") + bytes(2) + ip_address("10.1.13.10").packed
    head += ip_address("10.1.14.10").packed + bytes(8)
    return replace(_packet(Kind.TRAFFIC_INDICATION, PAR, NBMA[PAR], str(to)), request_id=0, payload=head)


@dataclass(frozen=True)
class Forged:
    """What Paris sends, and by which reason it is dropped. `make` gets the receiver's overlay address."""

    make: Callable[[IPv4Address], Packet]
    reason: str = NOT_AUTHORISED


REPLY = _packet(Kind.RESOLUTION_REPLY, LYO, NBMA[LYO], "10.1.14.77", _entry(PAR, NBMA[PAR], length=24))

AT_A_HUB = {
    "the registration of another": Forged(
        lambda hub: _packet(Kind.REGISTRATION_REQUEST, LYO, NBMA[PAR], str(hub), _entry(LYO, NBMA[PAR]))
    ),
    "another's address beside its own": Forged(
        lambda hub: _packet(Kind.REGISTRATION_REQUEST, PAR, NBMA[PAR], str(hub), _entry(OSL, NBMA[PAR]))
    ),
    "a request in another's name": Forged(
        lambda hub: _packet(Kind.RESOLUTION_REQUEST, LYO, NBMA[LYO], "10.1.14.77", _entry(LYO, NBMA[LYO]))
    ),
    "a request that puts another where it is": Forged(
        lambda hub: _packet(Kind.RESOLUTION_REQUEST, LYO, NBMA[PAR], "10.1.14.77", _entry(LYO, NBMA[PAR]))
    ),
    "an answer for another's network": Forged(lambda hub: REPLY),
    "an answer in another's name": Forged(lambda hub: replace(REPLY, cies=(_entry(OSL, NBMA[PAR], length=24),))),
    "an answer with another's place": Forged(lambda hub: replace(REPLY, cies=(_entry(OSL, NBMA[OSL], length=24),))),
    "an answer whose NAT extension moves another": Forged(
        lambda hub: replace(
            _packet(Kind.RESOLUTION_REPLY, LYO, NBMA[LYO], str(PAR), _entry(PAR, NBMA[PAR])),
            extensions=(CiscoNat((_entry(OSL, NBMA[PAR]),)),),
        )
    ),
    "a purge of another's binding": Forged(
        lambda hub: _packet(Kind.PURGE_REQUEST, PAR, NBMA[PAR], str(hub), _entry(LYO, NBMA[LYO]))
    ),
    "a purge in another's name": Forged(
        lambda hub: _packet(Kind.PURGE_REQUEST, OSL, NBMA[OSL], str(LYO), _entry(OSL, NBMA[OSL]))
    ),
    "a registration reply, as a hub's": Forged(
        lambda hub: _packet(Kind.REGISTRATION_REPLY, LYO, NBMA[LYO], str(hub), _entry(LYO, NBMA[LYO]))
    ),
}

AT_A_SPOKE = {
    "a request in another's name": Forged(
        lambda to: replace(_packet(Kind.RESOLUTION_REQUEST, OSL, NBMA[PAR], "10.1.13.77", _entry(OSL, NBMA[PAR])))
    ),
    "an answer to nothing": Forged(lambda to: replace(REPLY, request_id=3_000_000_000), "nhrp unsolicited"),
    "a registration reply, as a hub's": Forged(
        lambda to: replace(
            _packet(Kind.REGISTRATION_REPLY, LYO, NBMA[LYO], str(HQ), _entry(LYO, NBMA[LYO])), request_id=3_000_000_000
        ),
        "nhrp unsolicited",
    ),
    "an indication from a stranger": Forged(_indication, "nhrp stranger"),
}


@pytest.mark.parametrize("hub", HUBS)
@pytest.mark.parametrize("what", AT_A_HUB)
def test_a_hub_drops_what_is_not_its_senders_to_say(vpn: Vpn, hub: str, what: str) -> None:
    forged, to = AT_A_HUB[what], OVERLAY[hub]
    before = vpn.drops(hub).get(forged.reason, 0)
    _send(vpn, "par1", IPv4Address(f"100.64.1.{int(to) & 0xFF}"), forged.make(to))
    _counted(vpn, hub, forged.reason, before)


@pytest.fixture(scope="module")
def direct_to_lyon(vpn: Vpn) -> None:
    with vpn.flow("paris-pc", "lyon-pc") as flow:
        flow.until("direct", within_s=20)


@pytest.mark.usefixtures("direct_to_lyon")
@pytest.mark.parametrize("what", AT_A_SPOKE)
def test_a_spoke_drops_what_is_not_its_senders_to_say(vpn: Vpn, what: str) -> None:
    forged = AT_A_SPOKE[what]
    before = vpn.drops("lyo1").get(forged.reason, 0)
    _send(vpn, "par1", NBMA[LYO], forged.make(LYO))
    _counted(vpn, "lyo1", forged.reason, before)


@pytest.mark.usefixtures("direct_to_lyon")
def test_a_stolen_request_id_makes_no_shortcut(vpn: Vpn) -> None:
    """Rome is asked and silent; Paris answers in its place, with the id of the question."""
    pid = vpn.services("rom1")["dmvpnd"].pid
    vpn.run("rom1", "kill", "-STOP", str(pid))
    try:
        before = vpn.drops("lyo1").get(NOT_AUTHORISED, 0)
        with capture.in_memory() as output:
            wire = capture.start(vpn.node("lyo1"), DEVICE, output)
            vpn.run("lyon-pc", "ping", "-c", "3", "-i", "0.3", "-W", "1", "10.1.17.10")
            wire.stop()
            asked = _question(Path(f"/proc/self/fd/{output.fileno()}").read_bytes(), "10.1.17.10")
        cies = (_entry(PAR, NBMA[PAR], length=24),)
        _send(vpn, "par1", NBMA[LYO], replace(asked, kind=Kind.RESOLUTION_REPLY, cies=cies, extensions=()))
        _counted(vpn, "lyo1", NOT_AUTHORISED, before)
        assert "10.1.17." not in vpn.run("lyo1", "ip", "route", "show", "table", "all", "via", str(PAR)).text
    finally:
        vpn.run("rom1", "kill", "-CONT", str(pid))


def _question(octets: bytes, destination: str) -> Packet:
    for frame in captures.frames("capture", octets):
        found = frames.nhrp_in_frame(frame)
        if found is not None and found.octets[KIND_AT] == Kind.RESOLUTION_REQUEST:
            packet = decode(found.octets)
            if packet.destination_protocol == ip_address(destination):
                return packet
    raise AssertionError(f"nobody asked about {destination}")


def test_a_daemon_that_starts_again_ends_no_session(vpn: Vpn) -> None:
    known = vpn.read("hq1", "/var/lib/dmvpn/claims/learned.json")
    vpn.returned("hq1", "dmvpnd", vpn.kill("hq1", "dmvpnd"))
    until("all are there", lambda: len(_here(vpn, "hq1")) >= len(claims_lab.HONEST), within_s=20)
    vpn.reload_service("hq1", "learned")
    assert vpn.read("hq1", "/var/lib/dmvpn/claims/learned.json") == known
    for spoke in claims_lab.HONEST:
        (session,) = _bgp(vpn, spoke, str(HQ)).values()
        assert (session["bgpState"], session["connectionsEstablished"]) == ("Established", 1)


def _here(vpn: Vpn, hub: str) -> list[str]:
    return [row.name for row in vpn.status(hub).peers if row.name in claims_lab.HONEST and row.state.value == "direct"]


def _send(vpn: Vpn, router: str, to: IPv4Address, packet: Packet) -> None:
    form = LinkForm.TAP if vpn.status(router).clouds[0].plane == "userspace" else LinkForm.GRE

    def send() -> None:
        door = NhrpSocket(DEVICE, form)
        door.send(packet.encode(), to)
        door.close()

    vpn.node(router).call(send)
