"""A spoke under systemd whose ISP leases its address, and whose site has a gateway that two routers share: both
daemons work in their sandboxes, and leave nothing behind.
"""

import json
from collections.abc import Iterator

import pytest
from system_machines import DMVPN, NETWORK, UPLINK, Machine, hub_and_spoke, until

pytestmark = pytest.mark.lab
STATIC = f"isp1: {{port: eth0, address: {UPLINK}}}"
SERVER = (
    *("dnsmasq", "--port=0", "--interface=eth0", "--bind-dynamic", "--user=root", "--no-ping", "--pid-file=/run/d.pid"),
    *("--dhcp-authoritative", "--dhcp-leasefile=/run/d.leases", "--dhcp-range=192.0.2.1,192.0.2.1,255.255.255.252,1h"),
    *("--dhcp-option=option:router,192.0.2.2", "--dhcp-option=option:dns-server,192.0.2.53"),
)
UNIT = "dmvpn-acme-dhcp-isp1"
LAN = "networks: {lan: {port: eth1, prefix: 10.1.1.0/24}}"
SHARED = "networks: {lan: {port: eth1, prefix: 10.1.1.0/24, gateway: 10.1.1.1}}"
PARTNER = """\
        addresses: {lan: 10.1.1.2}
      par2:
        uplinks: {isp2: {port: eth0, address: [203.0.113.2/30], gateway: [203.0.113.1]}}
        tunnels: {blue: {address: [10.255.1.12]}}
        addresses: {lan: 10.1.1.3}
"""  # which is never there


@pytest.fixture(scope="module")
def spoke(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    assert NETWORK.count(STATIC) == NETWORK.count(LAN) == 1
    network = NETWORK.replace(STATIC, "isp1: {port: eth0, dhcp: true}").replace(LAN, SHARED) + PARTNER
    with hub_and_spoke(tmp_path_factory.mktemp("spoke"), network) as (hub, spoke):
        hub.run(*SERVER)
        for machine in (hub, spoke):
            machine.install()
        yield spoke


def addresses(machine: Machine, device: str = "eth0") -> list[str]:
    links = json.loads(machine.run("ip", "-j", "-4", "address", "show", device))
    return [one["local"] for link in links for one in link.get("addr_info", ())]


def test_the_lease_comes_and_the_tunnel_over_it(spoke: Machine) -> None:
    until(lambda: addresses(spoke) == ["192.0.2.1"], "the lease")
    until(lambda: '"direct"' in spoke.run(DMVPN, "peers", "--json", status=None), "the hub is reached")
    (route,) = json.loads(spoke.run("ip", "-j", "route", "show", "default"))
    assert (route["gateway"], route["protocol"], route["metric"]) == ("192.0.2.2", "dhcp", 100)
    assert "192.0.2.53" not in spoke.run("cat", "/etc/resolv.conf", status=None)


def test_a_restart_of_the_client_costs_no_address(spoke: Machine) -> None:
    watching = spoke.spawn("timeout", "5", "ip", "-o", "monitor", "address", "dev", "eth0")
    spoke.run("systemctl", "restart", UNIT)
    said, _ = watching.communicate(timeout=60)
    assert "Deleted" not in said
    assert addresses(spoke) == ["192.0.2.1"]
    assert "eth0.lease" in spoke.run("ls", f"/var/lib/dmvpn/acme/{UNIT.removeprefix('dmvpn-acme-')}")


def test_it_has_the_sites_gateway_while_its_partner_is_away(spoke: Machine) -> None:
    until(lambda: addresses(spoke, "eth1") == ["10.1.1.2", "10.1.1.1"], "the gateway's address")
    said = spoke.run(DMVPN, "status", status=None)
    assert "gateway 10.1.1.1 of lan: here" in said
    assert spoke.run("systemctl", "is-active", "dmvpn-acme-vrrp") == "active\n"
    spoke.run("systemctl", "kill", "-s", "KILL", "dmvpn-acme-vrrp")
    until(lambda: spoke.run("systemctl", "is-active", "dmvpn-acme-vrrp", status=None) == "active\n", "it is back")
    until(lambda: "10.1.1.1" in addresses(spoke, "eth1"), "the gateway's address again")


def test_uninstall_takes_the_lease_and_the_gateway_away(spoke: Machine) -> None:
    spoke.dmvpn("uninstall", "--yes")
    assert addresses(spoke) == addresses(spoke, "eth1") == []
    assert json.loads(spoke.run("ip", "-j", "route") or "[]") == []
    assert spoke.run("ls", "/var/lib/dhcpcd") == ""
