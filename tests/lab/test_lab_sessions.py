"""An ISP that speaks PPPoE, as it is drawn and described to pppoe-server. That it does: tests/vpn/test_vpn_pppoe.py."""

from ipaddress import IPv4Address
from pathlib import Path

import pytest

from dmvpn.errors import Fault, WrongInput
from dmvpn.lab import sessions
from dmvpn.lab.derive import topology_of
from dmvpn.lab.topology import LeaseServer, Node, Session, Topology
from dmvpn.network.compile import compile_plan, routers
from dmvpn.network.loading import load
from dmvpn.operations import labs

FILE = Path(__file__).parents[1] / "vpn" / "networks" / "pppoe.yaml"
PASSWORD = 'a "strange" \\ one'


def drawn(text: str) -> Topology:
    network = load(text, FILE.name)
    secrets = {"secrets/isp": PASSWORD.encode()}
    return topology_of(network.lab, [compile_plan(network, one, secrets=secrets) for one in routers(network)])


def server_of(node: Node, link: str) -> LeaseServer:
    (found,) = (one for one in node.leases if one.link == link)
    return found


def test_the_cable_carries_the_session_and_has_room_for_its_header() -> None:
    topology = drawn(FILE.read_text())
    cable = topology.links["lyo1.isp1"]
    assert (cable.a.device, cable.mtu_octets) == ("eth0.7", 1500)
    internet = topology.nodes["internet"]
    server = server_of(internet, "lyo1.isp1")
    assert (server.device, server.mtu_octets) == (cable.b.device, 1492)
    assert server.session == Session("lyon@isp1.example", PASSWORD)
    assert topology.outside["lyo1"] == tuple(lease.ip for lease in server.leases)
    # Both are the session's, and go with it; the other WAN router knows the way to its ISP.
    assert cable.b.device not in {device for device, _ in internet.addresses}
    assert cable.b.device not in {route.device for route in internet.routes}
    assert {f"{address}/32" for address in topology.outside["lyo1"]} <= {
        route.prefix for route in topology.nodes["other"].routes
    }


def test_each_session_ends_at_a_device_of_its_own() -> None:
    """Of which nothing but the cable tells: there is no address and no route on it."""
    text = (
        FILE.read_text()
        .replace("      lyo1:", "      paris-longest-1:")
        .replace("      par1:", "      paris-longest-2:")
    )
    topology = drawn(text.replace("par1.isp2", "paris-longest-2.isp2"))
    ends = [link.b.device for link in topology.links.values() if link.b.node == "internet"]
    assert len(ends) == len(set(ends))


def test_a_session_behind_a_nat_router_is_refused() -> None:
    nat = "lyo1.isp1: {nat: {kind: symmetric, public: 203.0.113.9}}, par1.isp2:"
    with pytest.raises(WrongInput) as caught:
        drawn(FILE.read_text().replace("par1.isp2:", nat))
    assert (
        str(caught.value) == "lab.uplinks.lyo1.isp1.nat: a PPPoE session ends at the WAN router itself; remove the line"
    )


def test_two_uplinks_of_one_user_have_a_password_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """chap-secrets(5) by pppd(8) "Authentication": client, server, secret, addresses."""
    monkeypatch.setattr(sessions, "_SECRETS", tmp_path / "chap-secrets")
    topology = drawn(FILE.read_text())
    for link, password in (("par1.isp1", "first"), ("lyo1.isp1", PASSWORD), ("par1.isp1", "second")):
        server = server_of(topology.nodes["internet"], link)
        argv = sessions.command(server, Session("anna", password), server.leases[1], tmp_path)
        assert argv[argv.index("-R") + 1] == str(server.leases[1].ip)
        assert argv[argv.index("-L") + 1] == str(IPv4Address(server.leases[0].network.network_address + 1))
        assert f"name {link}" in (tmp_path / "options").read_text().splitlines()
    assert (tmp_path / "chap-secrets").read_text().splitlines() == [
        '"anna" lyo1.isp1 "a \\"strange\\" \\\\ one" *',
        '"anna" par1.isp1 "second" *',
    ]
    assert (tmp_path / "chap-secrets").stat().st_mode & 0o777 == 0o600


def test_a_machine_without_ppp_says_so_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "_PPP", tmp_path / "ppp")
    monkeypatch.setattr(labs, "refuse_without_root", lambda: None)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/isp").write_text(PASSWORD)
    (tmp_path / "secrets/isp").chmod(0o600)
    (tmp_path / "network.yaml").write_text(FILE.read_text())
    with pytest.raises(Fault) as caught:
        labs.up(tmp_path / "network.yaml", "sessions", lambda _progress: None)
    assert str(caught.value) == (
        "uplink par1.isp1: this machine's kernel has no PPPoE, so no ISP of a lab can speak it;"
        " add --vm, or give the uplink dhcp: true, or an address"
    )
