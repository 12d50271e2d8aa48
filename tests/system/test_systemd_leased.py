"""A spoke whose ISP leases its address, under systemd: the client works in its sandbox, and leaves nothing behind."""

import json
from collections.abc import Iterator

import pytest
import system_machines
from system_machines import DMVPN, INIT, NETWORK, PAPERS, Machine, carry, make_papers, need_machines, until

pytestmark = pytest.mark.lab
STATIC = "isp1: {port: eth0, address: [192.0.2.1/30], gateway: [192.0.2.2]}"
SERVER = (
    *("dnsmasq", "--port=0", "--interface=eth0", "--bind-dynamic", "--user=root", "--no-ping", "--pid-file=/run/d.pid"),
    *("--dhcp-authoritative", "--dhcp-leasefile=/run/d.leases", "--dhcp-range=192.0.2.1,192.0.2.1,255.255.255.252,1h"),
    *("--dhcp-option=option:router,192.0.2.2", "--dhcp-option=option:dns-server,192.0.2.53"),
)
UNIT = "dmvpn-acme-dhcp-isp1"


@pytest.fixture(scope="module")
def spoke(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    need_machines()
    directory = tmp_path_factory.mktemp("leased")
    papers = directory / "papers"
    papers.mkdir()
    assert STATIC in NETWORK
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(system_machines, "NETWORK", NETWORK.replace(STATIC, "isp1: {port: eth0, dhcp: true}"))
        make_papers(papers)
    hub, spoke = Machine("hq1", directory, INIT), Machine("par1", directory, INIT)
    try:
        for machine in (hub, spoke):
            machine.power_on()
        for machine in (hub, spoke):
            until(lambda m=machine: is_up(m), f"{machine.name} is up")  # type: ignore[misc]
        hub.cable(spoke)
        hub.run(*SERVER)
        for machine in (hub, spoke):
            carry(machine, papers)
            machine.dmvpn("pki", "install", PAPERS)
            machine.dmvpn("apply", f"{PAPERS}/network.yaml", "--router", machine.name)
        yield spoke
    finally:
        hub.power_off()
        spoke.power_off()


def is_up(machine: Machine) -> bool:
    return machine.run("systemctl", "is-system-running", status=None).strip() in ("running", "degraded")


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
