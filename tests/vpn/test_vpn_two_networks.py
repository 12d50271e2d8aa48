"""Two networks on each of three machines: both carry, and what becomes of one is nothing to the other."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from vpn_lab import NETWORKS, Vpn, until, until_nothing

from dmvpn.operations import labs, reading
from dmvpn.render.layout import Layout

pytestmark = pytest.mark.lab

SECOND = NETWORKS["beside-trio"]
MACHINES = ("hq1", "par1", "lyo1")
SETTLE_S = 60.0
DIRECT_S = 15.0


@pytest.fixture(scope="module")
def vpn() -> Iterator[Vpn]:
    """The lab of the first network, and the second applied on its machines as an operator would."""
    with labs.held(NETWORKS["trio"], f"vpn-networks-{os.getpid()}", lambda _progress: None) as lab:
        vpn = Vpn(lab)
        vpn.settle()
        file = reading.read(SECOND)
        papers = labs.papers(file, reading.plans(file), labs.authorities(file))
        for machine in MACHINES:
            vpn.node(machine).call(partial(labs.install, papers[machine]))
            answer = apply(vpn, machine, SECOND.read_text())
            assert answer.status == 0, answer.stderr.decode()
        for machine in MACHINES:
            until_nothing(f"{machine} to settle in both", partial(unsettled, vpn, machine), within_s=SETTLE_S)
        yield vpn
        vpn.assert_no_traceback()


def apply(vpn: Vpn, machine: str, text: str) -> Any:
    path = "/root.second.yaml"
    vpn.write(machine, path, text)
    return vpn.dmvpn(machine, "apply", path, "--router", machine)


def status(vpn: Vpn, machine: str, network: str) -> dict[str, Any]:
    return dict(vpn.json(machine, "status", "--network", network))


def unsettled(vpn: Vpn, machine: str, networks: tuple[str, ...] = ("trio", "duo")) -> list[str]:
    left = []
    for network in networks:
        found = status(vpn, machine, network)
        left += [f"{network}: hub {hub['router']} {hub['state']}" for hub in found["hubs"] if hub["state"] != "up"]
        sessions = [f"{row['state']} {row['prefixes']}" for row in found["bgp"]]
        left += [f"{network}: BGP {one}" for one in sessions if not re.fullmatch(r"Established [1-9].*", one)]
        left += [] if sessions else [f"{network}: no BGP session"]
    return left


def pings(vpn: Vpn, machine: str, source: str, target: str, count: int = 3) -> list[int]:
    """The TTL of each answer."""
    words = ("-c", str(count), "-i", "0.2", "-W", "1", "-I", source, target)
    return [int(ttl) for ttl in re.findall(r"ttl=(\d+)", vpn.run(machine, "ping", *words).text)]


def direct_in_second(vpn: Vpn) -> bool:
    return pings(vpn, "par1", "10.2.12.1", "10.2.13.1") == [64] * 3


def test_both_carry_and_make_their_ways_direct(vpn: Vpn) -> None:
    with vpn.flow("paris-pc", "lyon-pc") as flow:
        flow.until("direct", within_s=DIRECT_S)
        until("a direct way in the second", lambda: direct_in_second(vpn), within_s=DIRECT_S)
        flow.mark()
        assert direct_in_second(vpn)
        assert flow.lost() == []


def test_each_has_its_own_of_everything_the_kernel_shares(vpn: Vpn) -> None:
    sockets = vpn.run("hq1", "ss", "-Hlun").text
    assert all(f":{port} " in sockets for port in (500, 501, 4500, 4501))
    assert all(f":{port} " in vpn.run("hq1", "ss", "-Hltn").text for port in (179, 1179))
    rules = vpn.run("par1", "ip", "rule").text
    assert len(set(re.findall(r"^220:.*lookup (\d+)", rules, re.MULTILINE))) == 2
    links = vpn.run("par1", "ip", "-details", "link").text
    assert {"trio.ipsec", "duo.ipsec"} == set(re.findall(r"altname (\S+)", links))
    tables = vpn.run("par1", "nft", "list", "tables").text
    assert "dmvpn_trio" in tables
    assert "dmvpn_duo" in tables


def test_a_router_of_one_is_no_router_of_the_other(vpn: Vpn) -> None:
    """Each has a transport range, and what comes out of one charon is not let in as the other's."""
    gre = {network: vpn.read("par1", f"{Layout(network).current}/gre.json") for network in ("trio", "duo")}
    assert '"bind_device": "trio.ipsec"' in gre["trio"]
    assert '"bind_device": "duo.ipsec"' in gre["duo"]
    for network, address in (("trio", "10.2.13.1"), ("duo", "10.1.13.1")):
        answer = vpn.dmvpn("par1", "explain", address, "--network", network)
        assert "10.255.1.1" not in answer.text or network == "trio"


@contextmanager
def unharmed(vpn: Vpn) -> Iterator[None]:
    """Two flows of the first network lose nothing meanwhile, and stay direct."""
    with vpn.flow("paris-pc", "lyon-pc") as flow, vpn.flow("paris-pc", "hq-pc") as to_hub:
        for one in (flow, to_hub):
            one.until("direct", within_s=DIRECT_S)
            one.mark()
        yield
        assert [flow.lost(), to_hub.lost()] == [[], []]
        assert all(packet.direct for packet in flow.stream.stretch())


def test_the_end_of_the_second_costs_the_first_nothing(vpn: Vpn) -> None:
    with unharmed(vpn):
        for machine in MACHINES:
            assert vpn.dmvpn(machine, "stop", "--network", "duo").status == 0
        assert not pings(vpn, "par1", "10.2.12.1", "10.2.13.1", 1)
        for machine in MACHINES:
            assert vpn.dmvpn(machine, "run", "--network", "duo").status == 0
        for machine in MACHINES:
            until_nothing(f"{machine} to settle in both", partial(unsettled, vpn, machine), within_s=SETTLE_S)


def test_a_flush_of_the_seconds_rules_costs_the_first_nothing(vpn: Vpn) -> None:
    with unharmed(vpn):
        for machine in MACHINES:
            vpn.node(machine).run(("nft", "delete", "table", "inet", "dmvpn_duo"))
        for machine in MACHINES:
            tables = ("nft", "list", "tables")
            until("the rules again", lambda: "dmvpn_duo" in vpn.run(machine, *tables).text, within_s=DIRECT_S)  # noqa: B023
        until("a direct way in the second", lambda: direct_in_second(vpn), within_s=DIRECT_S)


def test_the_end_of_the_first_leaves_the_second_what_they_share(vpn: Vpn) -> None:
    until("a direct way in the second", lambda: direct_in_second(vpn), within_s=DIRECT_S)
    for machine in MACHINES:
        assert vpn.dmvpn(machine, "stop", "--network", "trio").status == 0
    assert "198.51.100.2/30" in vpn.run("par1", "ip", "address", "show", "dev", "eth0").text
    assert pings(vpn, "par1", "10.2.12.1", "10.2.13.1", 10) == [64] * 10
    assert not pings(vpn, "par1", "10.1.12.1", "10.1.13.1", 1)
    for machine in MACHINES:
        assert vpn.dmvpn(machine, "run", "--network", "trio").status == 0
    for machine in MACHINES:
        until_nothing(f"{machine} to settle in both", partial(unsettled, vpn, machine), within_s=SETTLE_S)


THIRD = SECOND.read_text().replace("network: duo", "network: tri")
PORTS, RANGE = "ports: {ike: 501, ike-nat: 4501, bgp: 1179}", "transport: 100.65.0.0/16"
OTHERS = ((PORTS, "ports: {ike: 502, ike-nat: 4502, bgp: 1180}"), (RANGE, "transport: 100.66.0.0/16"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param(
            (),
            "ports.ike: UDP port 501 is of network duo on this machine too; write other ports in one of the two files,"
            " for all its routers: ports: {ike: 502, ike-nat: 4502, bgp: 2179}",
            id="the same ports",
        ),
        pytest.param(
            OTHERS[:1],
            "transport: 100.65.0.0/16 is of network duo on this machine too; write another range in one of the two"
            " files, for all its routers",
            id="the same transport range",
        ),
        pytest.param(
            OTHERS,
            "clouds.red.overlay: 10.2.255.0/24 meets an overlay of network duo on this machine; use another prefix",
            id="the same overlay",
        ),
        pytest.param(
            (*OTHERS, ("10.2.255.", "10.3.255."), ("prefixes: [10.2.0.0/16]", "prefixes: [10.2.0.0/16, 10.3.0.0/16]")),
            "prefixes: 10.2.0.0/16 is all of network duo on this machine too: a route can lead into one of them only;"
            " write in each file what that network has",
            id="the same prefixes",
        ),
    ],
)
def test_what_two_networks_cannot_both_have_is_refused_by_name(
    vpn: Vpn, changes: tuple[tuple[str, str], ...], said: str
) -> None:
    text = THIRD
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    answer = apply(vpn, "hq1", text)
    words = answer.stderr.decode()
    assert (answer.status, words.count("\n")) == (1, 1), words
    assert words.strip().endswith(said), words
    assert not vpn.node("hq1").call(Path("/etc/dmvpn/tri").exists)
