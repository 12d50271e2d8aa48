"""What a change will do to services, tunnels and the operator's own SSH session."""

from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from dmvpn.commit.difference import compare
from dmvpn.linux.ssh_session import Session
from dmvpn.network.compile import compile_plan
from dmvpn.network.loading import load
from dmvpn.network.plan import Opening, Plan, Plane
from dmvpn.operations import change, reading
from dmvpn.operations import outlook as outlook_room
from dmvpn.operations.outlook import cut_by, outlook, plan_of
from dmvpn.render.consequences import EFFECTS, kind
from dmvpn.render.engines import render_all
from dmvpn.render.result import Rendered

ROOT = Path(__file__).parents[2]
MINIMAL = (ROOT / "examples" / "minimal.yaml").read_text()
HOME = "192.0.2.77"
LAN = "10.1.1.50"


def plan(old: str = "", new: str = "") -> Plan:
    assert old in MINIMAL
    return compile_plan(load(MINIMAL.replace(old, new) if old else MINIMAL, "network.yaml"), "par1")


def rendered(old: str = "", new: str = "") -> tuple[Rendered, ...]:
    file = reading.from_text(MINIMAL.replace(old, new) if old else MINIMAL, "network.yaml", Path())
    return change.render(file, plan(old, new))


def session(client: str, server: str, device: str, gateway: str | None = None) -> Session:
    return Session(ip_address(client), ip_address(server), 22, device, None if gateway is None else ip_address(gateway))


BY_UPLINK = session(HOME, "198.51.100.2", "eth0", "198.51.100.1")
BY_LAN = session(LAN, "10.1.1.1", "eth1")
BY_TUNNEL = session("10.1.0.9", "10.1.1.1", "acme-blue", "10.255.1.1")
GONE_UPLINK = (
    "address: [198.51.100.2/30], gateway: [198.51.100.1]",
    "address: [203.0.113.2/30], gateway: [203.0.113.1]",
)
OTHER_GATEWAY = ("[198.51.100.2/30], gateway: [198.51.100.1]", "[198.51.100.2/29], gateway: [198.51.100.3]")
OTHER_PORT = ("isp1: {port: eth0, address: [198.51.100.2/30]", "isp1: {port: eth7, address: [198.51.100.2/30]")
OTHER_LAN = ("{port: eth1, prefix: 10.1.1.0/24}", "{port: eth1, prefix: 10.1.7.0/24}")
MORE_LAN = ("10.1.1.0/24}}", "10.1.1.0/24}, shop: {port: eth2, prefix: 10.1.112.0/24}}")


@pytest.mark.parametrize(
    ("through", "swap", "cut"),
    [
        pytest.param(BY_UPLINK, GONE_UPLINK, "isp1", id="the uplink's address goes"),
        pytest.param(BY_UPLINK, OTHER_GATEWAY, "isp1", id="its gateway does"),
        pytest.param(BY_UPLINK, OTHER_PORT, "isp1", id="it moves to another port"),
        pytest.param(BY_UPLINK, OTHER_LAN, "", id="a LAN goes, and the session is by the uplink"),
        pytest.param(BY_LAN, OTHER_LAN, "lan", id="the LAN's address goes"),
        pytest.param(BY_LAN, GONE_UPLINK, "", id="the uplink goes, and the session is by the LAN"),
        pytest.param(BY_LAN, MORE_LAN, "", id="something is added"),
        pytest.param(BY_TUNNEL, OTHER_LAN, "blue", id="through the tunnel, to an address that goes"),
        pytest.param(BY_TUNNEL, MORE_LAN, "", id="through the tunnel, which stays"),
        pytest.param(session(HOME, "10.1.1.1", "eth9"), OTHER_LAN, "10.1.1.1", id="by a device that is not ours"),
    ],
)
def test_whether_it_cuts_the_operators_session(through: Session, swap: tuple[str, str], cut: str) -> None:
    assert cut_by(through, plan(), plan(*swap), tunnels_restart=False) == cut


def test_tunnels_that_restart_cut_a_session_through_them() -> None:
    assert cut_by(BY_TUNNEL, plan(), plan(), tunnels_restart=True) == "blue"
    assert cut_by(BY_LAN, plan(), plan(), tunnels_restart=True) == ""


def test_an_opening_that_goes_cuts_who_came_in_by_it() -> None:
    before = replace(plan(), openings=(*plan().openings, Opening("ssh", "tcp", (22,), ("eth0",))))
    assert cut_by(BY_UPLINK, before, plan(), tunnels_restart=False) == "isp1"
    assert cut_by(BY_LAN, before, plan(), tunnels_restart=False) == ""


# ---------------------------------------------------------------- services


@pytest.mark.parametrize(
    ("swap", "effects"),
    [
        pytest.param(
            MORE_LAN,
            (
                "no tunnel restarts",
                "dmvpnd restarts: direct paths and security associations stay",
                "network reloads: links, addresses and routes that stay are not touched",
                "bgpd reloads: sessions stay, but those that it changes",
            ),
            id="a network more",
        ),
        pytest.param(
            ("{blue: {overlay: [10.255.1.0/24]}}", "{blue: {overlay: [10.255.1.0/24], gre-key: 9}}"),
            (
                "dmvpnd restarts: direct paths and security associations stay",
                "gre restarts: tunnels of the userspace plane stand still for less than a second",
            ),
            id="another GRE key",
        ),
    ],
)
def test_what_it_does_to_tunnels(swap: tuple[str, str], effects: tuple[str, ...]) -> None:
    new = rendered(*swap)
    found = outlook(rendered(), plan(*swap), compare(rendered(), new))
    assert set(effects) <= set(found.effects)
    assert ("no tunnel restarts" in found.effects) == ("no tunnel restarts" in effects)


def test_a_device_of_the_kernel_plane_with_another_key_is_made_anew() -> None:
    def kernel(key: int) -> Plan:
        there = plan()
        return replace(there, clouds=(replace(there.clouds[0], plane=Plane.KERNEL, gre_key=key),))

    assert list(outlook_room._made_anew(kernel(1), kernel(2))) == ["blue"]
    assert list(outlook_room._made_anew(kernel(1), kernel(1))) == []
    assert list(outlook_room._made_anew(plan(), kernel(1))) == ["blue"]


def test_nothing_changed_says_nothing() -> None:
    found = outlook(rendered(), plan(), compare(rendered(), rendered()))
    assert (found.changes, found.effects, found.cuts_ssh) == ((), (), "")


def test_files_that_are_written_otherwise_by_a_newer_program_are_told() -> None:
    old = tuple(
        Rendered(part.engine, tuple(f if f.path.suffix != ".nft" else type(f)(f.path, "# old\n") for f in part.files))
        if part.engine == "nftables"
        else part
        for part in rendered()
    )
    found = outlook(old, plan(), compare(old, rendered()))
    assert found.changes == ("par1: nothing in its plan; its files are written otherwise",)


@pytest.mark.parametrize("example", ["minimal", "demo", "ospf"])
def test_every_unit_has_its_consequences(example: str) -> None:
    file = reading.read(ROOT / "examples" / f"{example}.yaml")
    for each in reading.plans(file).values():
        for part in render_all(each):
            for unit in part.units:
                assert kind(unit.name, each.network) in EFFECTS


def test_a_revision_knows_the_plan_it_was_made_of() -> None:
    assert plan_of(rendered()) == plan()
    assert plan_of(rendered()[1:]) is None
