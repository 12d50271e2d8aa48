"""Ports of the machine: plain links that stand for bonds and VLANs, what a port was before, and clear refusals."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

import pytest

from dmvpn.errors import Fault, WrongInput
from dmvpn.linux import netstate
from dmvpn.linux.netstate_file import decode, encode, load
from dmvpn.linux.netstate_kernel import Kernel

Run = Callable[..., str]
Put = Callable[..., Path]
BOND: dict[str, Any] = {
    "name": "bond0",
    "members": [{"name": "eth0"}, {"name": "eth1"}],
    "mode": "active-backup",
    "miimon_ms": 100,
    "updelay_ms": 200,
    "lacp_rate": "slow",
    "mtu": None,
}


def vlan(number: int, port: str = "bond0", mtu: int | None = None) -> dict[str, Any]:
    return {"name": f"{port}.{number}", "port": port, "id": number, "mtu": mtu}


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Writes network.json of these keys alone."""

    def write(network: str = "acme", **keys: Any) -> Path:
        state = str(tmp_path / "run" / network / "network.state.json")
        path = tmp_path / f"{network}.json"
        path.write_text(json.dumps({"version": 1, "network": network, "state": state, **keys}))
        return path

    return write


def mtu_of(ip: Run, device: str) -> int:
    return int(json.loads(ip("-j", "link", "show", device))[0]["mtu"])


def is_up(ip: Run, device: str) -> bool:
    return "UP" in json.loads(ip("-j", "link", "show", device))[0]["flags"]


def test_the_file_survives_a_round_trip(put: Put) -> None:
    former = [{"name": "eth0", "mtu": 1400, "up": False}]
    path = put(
        bonds=[BOND], vlans=[vlan(8, mtu=1400)], ports=[{"name": "eth2", "mtu": None}], former=former,
        leased=[{"name": "bond0.256"}], uplinks=[{"name": "eth2"}], brought=[{"name": "eth2", "index": 7}],
    )  # fmt: skip
    first = load(path)
    assert decode("again", json.loads(encode(first))) == first
    assert first.links.former[0].mtu_octets == 1400


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        pytest.param({"bonds": [{**BOND, "mode": "round"}]}, "bonds[0].mode: 'round' is not one of", id="mode"),
        pytest.param({"bonds": [{**BOND, "members": []}]}, "bonds[0].members: a bond has 1 to 8", id="no member"),
        pytest.param({"bonds": [{**BOND, "miimon_ms": 0}]}, "bonds[0].miimon_ms: 0 is not in 1..60000", id="miimon"),
        pytest.param({"vlans": [vlan(4095)]}, "vlans[0].id: 4095 is not in 1..4094", id="VLAN id"),
        pytest.param({"vlans": [{**vlan(8), "name": "a b"}]}, "vlans[0].name: 'a b' is not a device name", id="name"),
        pytest.param({"ports": [{"name": "eth0", "mtu": 9}]}, "ports[0].mtu: 9 is not in 68..65535", id="MTU"),
    ],
)
def test_a_wrong_file_says_where(put: Put, keys: dict[str, Any], fault: str) -> None:
    with pytest.raises(WrongInput) as caught:
        load(put(**keys))
    assert fault in str(caught.value)


def test_plain_links_of_their_names_stand_for_a_bond_and_its_vlans(netns: None, ip: Run, put: Put) -> None:
    ip("link", "add", "bond0.8", "type", "veth", "peer", "name", "far")
    path = put(bonds=[BOND], vlans=[vlan(8)], addresses=[{"device": "bond0.8", "address": "10.1.8.1/24"}])
    warnings = netstate.apply(path)
    assert warnings == (
        "bond bond0: not made, since the machine has what is on it already",
        "VLAN bond0.8: the machine has it already (veth); it is used as it is",
    )
    assert "10.1.8.1/24" in ip("address", "show", "bond0.8")
    netstate.remove(path)
    assert "10.1.8.1" not in ip("address", "show", "bond0.8")


def test_a_port_gets_its_mtu_and_has_its_own_again_in_the_end(netns: None, ip: Run, put: Put) -> None:
    ip("link", "add", "eth2", "mtu", "1400", "type", "veth", "peer", "name", "far")
    path = put(ports=[{"name": "eth2", "mtu": 9000}], addresses=[{"device": "eth2", "address": "10.1.1.1/24"}])
    netstate.apply(path)
    assert (mtu_of(ip, "eth2"), is_up(ip, "eth2")) == (9000, True)
    netstate.apply(put(ports=[{"name": "eth2", "mtu": 2000}]))
    assert mtu_of(ip, "eth2") == 2000
    netstate.remove(path)
    assert (mtu_of(ip, "eth2"), is_up(ip, "eth2")) == (1400, False)


ISPS = (("eth0", "192.0.2"), ("eth1.7", "198.51.100"))


def of_isps(put: Put) -> Path:
    route = {"prefix": "0.0.0.0/0", "kind": "unicast", "table": 254, "protocol": 79}
    return put(
        vlans=[vlan(7, "eth1"), vlan(9, "eth1")],
        uplinks=[{"name": device} for device in ("eth0", "eth1.7", "eth1.9")],
        leased=[{"name": "eth1.9"}],
        addresses=[{"device": device, "address": f"{net}.2/30"} for device, net in (*ISPS, ("lan0", "10.1.1"))],
        routes=[
            {**route, "device": device, "gateway": f"{net}.1", "metric": 100 + number}
            for number, (device, net) in enumerate(ISPS)
        ],
    )


def test_the_dead_card_of_one_isp_costs_neither_the_other_one_nor_the_lan(netns: None, ip: Run, put: Put) -> None:
    path = of_isps(put)
    for device in ("eth0", "lan0"):
        ip("link", "add", device, "type", "bridge")
    warnings = netstate.apply(path)
    assert warnings == (
        "device eth1.7: is not there; the uplink on it waits",
        "device eth1.9: is not there (yet); what is leased on it waits",
    )
    assert "192.0.2.1" in ip("route", "show", "default")
    assert "10.1.1.2/30" in ip("address", "show", "lan0")
    ip("link", "add", "eth1.7", "type", "bridge")
    netstate.apply(path)
    assert "198.51.100.1" in ip("route", "show", "default"), "and it has all of it when it comes"
    ip("link", "delete", "eth1.7")
    netstate.apply(path)
    netstate.remove(path)


def test_without_any_uplink_the_file_is_refused(netns: None, ip: Run, put: Put) -> None:
    ip("link", "add", "lan0", "type", "bridge")
    with pytest.raises(Fault, match="no such device"):
        netstate.apply(of_isps(put))


def test_the_kernel_takes_an_isp_s_router_beside_a_single_address(netns: None, ip: Run, put: Put) -> None:
    ip("link", "add", "eth0", "type", "bridge")
    route = {"kind": "unicast", "device": "eth0", "metric": 100, "table": 254, "protocol": 79}
    routes = [
        {**route, "prefix": "0.0.0.0/0", "gateway": "192.0.2.1"},
        {**route, "prefix": "192.0.2.1/32"},
        {**route, "prefix": "::/0", "gateway": "fe80::1"},
    ]
    path = put(addresses=[{"device": "eth0", "address": "198.51.100.2/32"}], routes=routes)
    netstate.apply(path)
    assert "192.0.2.1" in ip("route", "get", "9.9.9.9")
    netstate.apply(path)
    netstate.remove(path)
    assert (ip("route"), ip("-6", "route", "show", "default")) == ("", "")


def test_a_port_of_two_networks_is_given_back_by_the_last(netns: None, ip: Run, put: Put) -> None:
    ip("link", "add", "eth2", "mtu", "1400", "type", "veth", "peer", "name", "far")
    paths = [put(network, ports=[{"name": "eth2", "mtu": 9000}]) for network in ("acme", "other")]
    for path in paths:
        netstate.apply(path)
    netstate.remove(paths[0])
    assert mtu_of(ip, "eth2") == 9000
    netstate.remove(paths[1])
    assert mtu_of(ip, "eth2") == 1400


def test_what_was_leased_goes_with_the_uplink_and_nothing_else(netns: None, ip: Run, put: Put) -> None:
    ip("link", "add", "eth2", "type", "veth", "peer", "name", "far")
    ip("link", "set", "far", "up")
    path = put(leased=[{"name": "eth2"}])
    netstate.apply(path)
    ip("address", "add", "192.0.2.9/24", "dev", "eth2", "valid_lft", "600", "preferred_lft", "600")
    ip("address", "add", "192.0.2.77/32", "dev", "eth2")
    ip("route", "add", "default", "via", "192.0.2.1", "dev", "eth2", "proto", "dhcp", "metric", "100")
    ip("route", "add", "10.9.0.0/16", "dev", "eth2")
    netstate.apply(path)
    assert "192.0.2.9/24" in ip("address", "show", "eth2")
    netstate.apply(put())
    assert "192.0.2.9/24" not in ip("address", "show", "eth2")
    assert "192.0.2.77/32" in ip("address", "show", "eth2")
    assert [line.split()[0] for line in ip("route").splitlines()] == ["10.9.0.0/16"]


def test_what_somebody_switched_off_stays_so_until_the_next_start(netns: None, ip: Run, put: Put) -> None:
    path = of_lan_and_isp(put)
    for device in ("eth0", "lan0"):
        ip("link", "add", device, "type", "bridge")
    netstate.apply(path)
    ip("link", "set", "eth0", "down")
    ip("link", "set", "lan0", "down")
    ip("link", "set", "lan0", "up")
    for _again in range(2):
        assert netstate.restore(path) == ("device eth0: somebody switched it off; it stays so",)
        assert (is_up(ip, "eth0"), ip("route", "show", "default")) == (False, "")
    assert "10.7.0.0/16 via 10.1.1.9" in ip("route"), "the other has its own"
    ip("link", "set", "eth0", "up")
    assert netstate.restore(path) == ()
    assert "192.0.2.1" in ip("route", "show", "default")
    ip("link", "set", "eth0", "down")
    netstate.apply(path)
    assert "192.0.2.1" in ip("route", "show", "default")


def test_a_card_that_is_put_back_or_new_in_the_file_is_switched_on(netns: None, ip: Run, put: Put) -> None:
    path = of_lan_and_isp(put)
    for device in ("eth0", "eth5", "lan0"):
        ip("link", "add", device, "type", "bridge")
    netstate.apply(path)
    ip("link", "delete", "eth0")
    ip("link", "add", "eth0", "type", "bridge")
    assert netstate.restore(path) == ()
    assert "192.0.2.1" in ip("route", "show", "default")
    netstate.restore(put(addresses=[{"device": "eth5", "address": "10.5.0.1/24"}]))
    assert is_up(ip, "eth5")


def test_a_restoration_that_fails_forgets_nothing(netns: None, ip: Run, put: Put) -> None:
    path = of_lan_and_isp(put)
    for device in ("eth0", "lan0"):
        ip("link", "add", device, "type", "bridge")
    netstate.apply(path)
    good = path.read_text()
    document = json.loads(good)
    route = {"kind": "unicast", "device": "lan0", "metric": 100, "table": 254, "protocol": 79}
    document["routes"].append({**route, "prefix": "10.8.0.0/16", "gateway": "10.99.0.1"})
    path.write_text(json.dumps(document))
    for device in ("lan0", "eth0"):
        with pytest.raises(Fault, match=r"10\.8\.0\.0/16"):
            netstate.restore(path)
        ip("link", "set", device, "up" if device == "lan0" else "down")
    with pytest.raises(Fault, match=r"10\.8\.0\.0/16"):
        netstate.restore(path)
    assert not is_up(ip, "eth0")


def test_what_is_switched_on_while_it_is_restored_stays_on(
    netns: None, ip: Run, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = of_lan_and_isp(put)
    for device in ("eth0", "lan0"):
        ip("link", "add", device, "type", "bridge")
    netstate.apply(path)
    ip("link", "set", "eth0", "down")
    rules = Kernel.rules

    def late(kernel: Kernel) -> Any:
        ip("link", "set", "eth0", "up")
        return rules(kernel)

    with monkeypatch.context() as changed:
        changed.setattr(Kernel, "rules", late)
        netstate.restore(path)
    assert is_up(ip, "eth0")
    assert netstate.restore(path) == ()
    assert "192.0.2.1" in ip("route", "show", "default")


def test_what_a_failed_restoration_switched_on_can_be_switched_off(netns: None, ip: Run, put: Put) -> None:
    ip("link", "add", "eth5", "type", "bridge")
    route = {"kind": "unicast", "device": "eth5", "metric": 100, "table": 254, "protocol": 79}
    wrong = {**route, "prefix": "10.8.0.0/16", "gateway": "10.99.0.1"}
    path = put(addresses=[{"device": "eth5", "address": "10.5.0.1/24"}], routes=[wrong])
    with pytest.raises(Fault, match=r"10\.8\.0\.0/16"):
        netstate.restore(path)
    assert is_up(ip, "eth5")
    ip("link", "set", "eth5", "down")
    assert netstate.restore(path) == ("device eth5: somebody switched it off; it stays so",)
    assert not is_up(ip, "eth5")


def test_what_a_change_was_about_to_take_down_when_it_failed_is_switched_on(netns: None, ip: Run, put: Put) -> None:
    """In the record of either of two networks that have it."""
    ip("link", "add", "bond0", "type", "bridge")
    paths = [put(network, addresses=[{"device": "bond0", "address": "10.1.1.1/24"}]) for network in ("acme", "other")]
    for path in paths:
        netstate.apply(path)
    record = load(paths[0]).state
    failed = json.loads(record.read_text())
    record.write_text(json.dumps({**failed, "brought": [{"name": "bond0", "index": 0}]}))
    ip("link", "set", "bond0", "down")
    assert netstate.restore(paths[1]) == ()
    assert is_up(ip, "bond0")


def test_a_neighbour_that_knows_the_card_before_says_nothing_of_the_new_one(netns: None, ip: Run, put: Put) -> None:
    ip("link", "add", "eth0", "type", "bridge")
    paths = [put(network, addresses=[{"device": "eth0", "address": "10.1.1.1/24"}]) for network in ("acme", "other")]
    for path in paths:
        netstate.apply(path)
    ip("link", "delete", "eth0")
    ip("link", "add", "eth0", "type", "bridge")
    netstate.restore(paths[0])
    ip("link", "set", "eth0", "down")
    assert len(netstate.restore(paths[0])) == 1
    assert not is_up(ip, "eth0")


def test_a_stand_in_for_a_vlan_keeps_its_routes_when_the_port_is_off(netns: None, ip: Run, put: Put) -> None:
    for device in ("eth0", "eth0.8"):
        ip("link", "add", device, "type", "bridge")
    route = {"kind": "unicast", "device": "eth0.8", "metric": 100, "table": 254, "protocol": 79}
    path = put(
        ports=[{"name": "eth0", "mtu": None}],
        vlans=[vlan(8, "eth0")],
        addresses=[{"device": "eth0.8", "address": "10.1.8.1/24"}],
        routes=[{**route, "prefix": "10.7.0.0/16", "gateway": "10.1.8.9"}],
    )
    netstate.apply(path)
    ip("link", "set", "eth0", "down")
    netstate.restore(path)
    assert "10.7.0.0/16 via 10.1.8.9" in ip("route")


def test_a_port_that_is_off_stays_so_when_it_leaves_the_file(netns: None, ip: Run, put: Put) -> None:
    ip("link", "add", "eth2", "type", "bridge")
    ip("link", "set", "eth2", "up")
    netstate.apply(put(ports=[{"name": "eth2", "mtu": None}]))
    ip("link", "set", "eth2", "down")
    netstate.restore(put())
    assert not is_up(ip, "eth2")


def of_lan_and_isp(put: Put) -> Path:
    route = {"kind": "unicast", "metric": 100, "table": 254, "protocol": 79}
    return put(
        addresses=[{"device": "eth0", "address": "192.0.2.2/30"}, {"device": "lan0", "address": "10.1.1.2/24"}],
        routes=[
            {**route, "prefix": "0.0.0.0/0", "gateway": "192.0.2.1", "device": "eth0"},
            {**route, "prefix": "10.7.0.0/16", "gateway": "10.1.1.9", "device": "lan0"},
        ],
    )


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        pytest.param({"bonds": [BOND], "vlans": [vlan(8)]}, "none of its members eth0, eth1", id="no member is there"),
        pytest.param({"vlans": [vlan(8, "eth9")]}, "device eth9: there is no such device for VLAN 8", id="no port"),
    ],
)
def test_what_cannot_be_is_refused_at_once(netns: None, ip: Run, put: Put, keys: dict[str, Any], fault: str) -> None:
    with pytest.raises(Fault) as caught:
        netstate.apply(put(**keys))
    assert fault in str(caught.value)


@pytest.mark.parametrize("kind", ["bond", "vlan"])
def test_a_kernel_without_them_says_which_module_to_load(netns: None, ip: Run, put: Put, kind: str) -> None:
    ip("link", "add", "eth0", "type", "veth", "peer", "name", "far")
    try:
        ip("link", "add", "link", "eth0", "name", "try", "type", kind, *(("id", "9") if kind == "vlan" else ()))
    except CalledProcessError:
        pass
    else:
        pytest.skip(f"this kernel has the module for a {kind}")
    keys = {"bonds": [BOND]} if kind == "bond" else {"vlans": [vlan(8, "eth0")]}
    module = {"bond": "bonding", "vlan": "8021q"}[kind]
    with pytest.raises(Fault, match=f"this kernel has no module {module}.*modprobe {module}"):
        netstate.apply(put(**keys))


@pytest.mark.parametrize("reason", ["an address", "a bridge"])
def test_a_member_that_is_somebody_elses_is_refused(netns: None, ip: Run, put: Put, reason: str) -> None:
    ip("link", "add", "eth0", "type", "veth", "peer", "name", "far")
    if reason == "an address":
        ip("address", "add", "192.0.2.5/24", "dev", "eth0")
        fault = "port eth0: has the address 192.0.2.5/24, and is to be a member of bond0; give bond0 .* in the file"
    else:
        ip("link", "add", "br0", "type", "bridge")
        ip("link", "set", "eth0", "master", "br0")
        fault = "port eth0: is in br0, and is to be a member of bond0; take it out there: ip link set eth0 nomaster"
    with pytest.raises(Fault, match=fault):
        netstate.apply(put(bonds=[BOND]))
