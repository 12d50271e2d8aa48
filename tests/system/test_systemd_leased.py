"""A spoke whose ISP leases its address, under systemd: the client works in its sandbox, and leaves nothing behind."""

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


@pytest.fixture(scope="module")
def spoke(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    assert STATIC in NETWORK
    leased = NETWORK.replace(STATIC, "isp1: {port: eth0, dhcp: true}")
    with hub_and_spoke(tmp_path_factory.mktemp("leased"), leased) as (hub, spoke):
        hub.run(*SERVER)
        for machine in (hub, spoke):
            machine.install()
        yield spoke


def addresses(machine: Machine) -> list[str]:
    links = json.loads(machine.run("ip", "-j", "-4", "address", "show", "eth0"))
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


def test_uninstall_takes_the_lease_away(spoke: Machine) -> None:
    spoke.dmvpn("uninstall", "--yes")
    assert addresses(spoke) == []
    assert json.loads(spoke.run("ip", "-j", "route") or "[]") == []
    assert spoke.run("ls", "/var/lib/dhcpcd") == ""
