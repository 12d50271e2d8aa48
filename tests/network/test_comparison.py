"""What a change is in an operator's sentences: nothing that differs between two Plans stays unsaid."""

from dataclasses import fields, replace
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from dmvpn.network.comparison import WORDS, sentences
from dmvpn.network.compile import compile_plan
from dmvpn.network.loading import load
from dmvpn.network.plan import (
    Admin,
    Band,
    Bfd,
    Bond,
    BondMode,
    Host,
    LacpRate,
    Lan,
    Mark,
    Opening,
    Plan,
    Port,
    Pppoe,
    Vlan,
)

EXAMPLES = Path(__file__).parents[2] / "examples"
MINIMAL = (EXAMPLES / "minimal.yaml").read_text()


def plan(text: str = MINIMAL, router: str = "par1") -> Plan:
    return compile_plan(load(text, "network.yaml"), router)


PARIS_LAN = "{lan: {port: eth1, prefix: 10.1.1.0/24}}"
UPLINK = "isp1: {port: eth0, address: [198.51.100.2/30], gateway: [198.51.100.1]}"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        pytest.param("", "", (), id="nothing"),
        pytest.param(
            PARIS_LAN,
            "{lan: {port: eth1, prefix: 10.1.1.0/24}, guest: {port: eth2, prefix: 10.1.96.0/24}}",
            (
                "par1 gains network guest (10.1.96.0/24 on eth2)",
                "par1: cloud blue: BGP: filter of what it announces: also 10.1.96.0/24",
            ),
            id="a network",
        ),
        pytest.param(
            UPLINK,
            UPLINK + ", isp2: {port: eth3, dhcp: true}",
            (
                "par1 gains uplink isp2 (by DHCP on eth3)",
                "par1: cloud blue: uplinks in order: also isp2",
                "par1: opening udp 500 4500 (IKE, and ESP in UDP): devices: also eth3",
            ),
            id="an uplink",
        ),
        pytest.param(
            UPLINK,
            UPLINK.replace("198.51.100.1]", "198.51.100.1], mtu: 1400"),
            (
                "par1: uplink isp1: MTU 1500 becomes 1400",
                "par1: cloud blue: MTU 1376 becomes 1314",
            ),
            id="its MTU",
        ),
        pytest.param(
            UPLINK,
            "isp1: {port: eth0, vlan: 256, dhcp: true}",
            (
                "par1: uplink isp1: device eth0 becomes eth0.256",
                "par1: uplink isp1: address: no longer 198.51.100.2/30",
                "par1: uplink isp1: gateway: no longer 198.51.100.1",
                "par1: uplink isp1: DHCP off becomes on",
                "par1: opening udp 500 4500 (IKE, and ESP in UDP): devices eth0 becomes eth0.256",
            ),
            id="how it gets its address",
        ),
        pytest.param(
            PARIS_LAN,
            "{lan: {port: eth1, prefix: 10.1.1.0/24}, guest: {port: eth1, vlan: 96, prefix: 10.1.96.0/24,"
            " zone: internet-only}}",
            ("par1 gains network guest VLAN 96 (10.1.96.0/24 on eth1.96)",),
            id="a guest network",
        ),
        pytest.param(
            "address: [192.0.2.2/30], gateway: [192.0.2.1]",
            "address: [192.0.2.6/30], gateway: [192.0.2.5]",
            ("par1: cloud blue: hub hq1: endpoint 192.0.2.2 becomes 192.0.2.6",),
            id="where a hub is",
        ),
        pytest.param(
            "{blue: {overlay: [10.255.1.0/24]}}",
            "{blue: {overlay: [10.255.1.0/24], bfd: true}}",
            ("par1: cloud blue gains BFD", "par1 gains opening udp 3784 3785 4784 (BFD) on acme-blue"),
            id="BFD",
        ),
    ],
)
def test_a_change_in_sentences(old: str, new: str, said: tuple[str, ...]) -> None:
    found = sentences(plan(), plan(MINIMAL.replace(old, new) if old else MINIMAL))
    assert found == said


def test_a_first_apply_says_all_there_is() -> None:
    assert sentences(None, plan()) == (
        "par1 becomes a router of acme, at site paris",
        "par1 gains uplink isp1 (198.51.100.2/30 on eth0)",
        "par1 gains network lan (10.1.1.0/24 on eth1)",
        "par1 gains cloud blue as a spoke (10.255.1.11, hubs hq1)",
    )


def test_a_login_is_named_by_its_account_and_the_end_of_its_key() -> None:
    old = plan()
    host = replace(old.host, admins=(Admin("anna", "ssh-ed25519 AAAA anna@desk"),))
    assert sentences(old, replace(old, host=host)) == ("par1 gains the login of anna (anna@desk)",)
    assert sentences(replace(old, host=host), old) == ("par1 loses the login of anna (anna@desk)",)


def test_what_becomes_of_the_machines_own_services_is_said() -> None:
    tunnels = "tunnels: {blue: {address: [10.255.1.11]}}"
    adopting = MINIMAL.replace(tunnels, f"{tunnels}\n        adopt: frr")
    said = "par1 adopts frr: the machine's own is stopped and masked; uninstall brings it back"
    assert sentences(None, plan(adopting))[-1] == said
    assert sentences(plan(), plan(adopting)) == (said,)
    assert sentences(plan(adopting), plan()) == ("par1 adopts frr no more: it comes back",)


def test_a_vlan_is_called_one() -> None:
    old = plan()
    lan = old.lans[0]
    guest = Lan("guest", "bond0.96", ip_network("10.1.96.0/24"), lan.address, "internet-only")
    found = sentences(old, replace(old, lans=(lan, guest)))
    assert found == ("par1 gains network guest VLAN 96 (10.1.96.0/24 on bond0.96)",)


@pytest.mark.parametrize("kind", WORDS, ids=lambda kind: kind.__name__)
def test_every_field_has_a_word(kind: type) -> None:
    assert set(WORDS[kind]) == {field.name for field in fields(kind)}


def _other(value: Any) -> Any:
    """Another value of the same kind."""
    match value:
        case bool():
            return not value
        case Enum():
            return next(one for one in type(value) if one is not value)
        case int() | float():
            return value + 1
        case str():
            return value + "x"
        case bytes() | None:
            return b"x"
        case IPv4Address():
            return value + 1
        case IPv4Network():
            return ip_network("10.99.0.0/16")
        case tuple():
            return (*value, _other(value[0])) if value else (ip_address("192.0.2.99"),)
        case Mark() | Band():
            first = fields(value)[0].name
            return replace(value, **{first: getattr(value, first) + 1})
        case _:
            raise AssertionError(f"no other value for {value!r}")


def _rich() -> Plan:
    """A plan that has everything that can differ."""
    spoke = plan()
    cloud = replace(spoke.clouds[0], bfd=Bfd(300, 3))
    opening = Opening("ssh", "tcp", (22,), ("eth1",))
    host = Host("par1", "UTC", (IPv4Address("192.0.2.53"),), (Admin("anna", "ssh-ed25519 AAAA anna@desk"),))
    return replace(
        spoke,
        clouds=(cloud,),
        openings=(opening,),
        host=host,
        adopts=("frr",),
        uplinks=(replace(spoke.uplinks[0], pppoe=Pppoe("anna@isp", b"secret")),),
        bonds=(Bond("bond0", ("eth2", "eth3"), BondMode.LACP, 100, 200, LacpRate.SLOW, 1500),),
        vlans=(Vlan("bond0.8", "bond0", 8, 1500),),
        ports=(Port("eth1", 1500),),
    )


def _places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every field below a Plan that has a word."""
    found: list[tuple[str | int, ...]] = []
    for field in fields(value):
        inner = getattr(value, field.name)
        here = (*path, field.name)
        if type(inner) in WORDS:
            found += _places(inner, here)
        elif isinstance(inner, tuple) and inner and type(inner[0]) in WORDS:
            found += _places(inner[0], (*here, 0))
        elif WORDS[type(value)][field.name] is not None:
            found.append(here)
    return found


def _changed(value: Any, path: tuple[str | int, ...]) -> Any:
    if not path:
        return _other(value)
    first, rest = path[0], path[1:]
    if isinstance(first, int):
        return (_changed(value[0], rest), *value[1:])
    return replace(value, **{first: _changed(getattr(value, first), rest)})


@pytest.mark.parametrize("path", _places(_rich()), ids=lambda path: ".".join(map(str, path)))
def test_nothing_that_differs_stays_unsaid(path: tuple[str | int, ...]) -> None:
    old = _rich()
    new = _changed(old, path)
    assert new != old
    assert len(sentences(old, new)) >= 1


def test_a_secret_is_not_shown() -> None:
    old = plan()
    cloud = old.clouds[0]
    new = replace(old, clouds=(replace(cloud, nhrp=replace(cloud.nhrp, authentication=b"hidden")),))
    assert sentences(old, new) == ("par1: cloud blue: NHRP: secret changes",)
