"""The wiki's page as one file, run: two hubs with one gateway, a spoke with two ISPs, five zones and the page's policy.

What a lab cannot have is played: a lease instead of PPPoE, links instead of VLANs of a bond, and no DNS for the hubs.
What is probed comes after the routers, and ten good rounds of thirty seconds would be five minutes: one is enough.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from vpn_lab import Vpn, settled_lab, until

from dmvpn.daemon.control import UplinkRow

pytestmark = pytest.mark.lab

GUEST = "10.1.96.50"  # nobody is told the way there
WIKI = Path(__file__).parents[2] / "examples/wiki.yaml"
PLAYED = {
    "pppoe: {user: user@isp2.example, password: {file: secrets/isp2}}": "dhcp: true",
    "    hubs: hub.example.com # an A record for each hub\n": "",
    "probe: {interval: 30s, timeout: 4s}": "probe: {interval: 30s, timeout: 4s, up: 1}",
}
LAB = """
lab:
  wan: {delay: 5ms}
  routers: {internet: {}}
  hosts:
    core-pc: {network: core.lan, address: 10.0.0.10}
    lan-pc: {network: location1.lan, address: 10.1.8.50}
    dmz-pc: {network: location1.dmz, address: 10.1.64.25}
    guest-pc: {network: location1.guest, address: 10.1.96.50}
"""
PROBED = ("8.8.8.8", "208.67.222.222", "8.8.4.4")
INTERNET = "192.0.2.1"
MOVED_S = 30.0


@pytest.fixture(scope="module")
def vpn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vpn]:
    text = WIKI.read_text()
    for page, here in PLAYED.items():
        assert page in text
        text = text.replace(page, here)
    path = tmp_path_factory.mktemp("wiki") / "network.yaml"
    path.write_text(text + LAB)
    with settled_lab(path, "wiki", untold=[GUEST]) as vpn:
        for address in PROBED:
            assert vpn.run("internet", "ip", "address", "add", f"{address}/32", "dev", "lo").status == 0
        yield vpn


def test_each_zone_reaches_what_the_page_says_and_nothing_else(vpn: Vpn) -> None:
    allowed = {
        "lan-pc": ("10.0.0.10", INTERNET, "10.1.8.1"),
        "dmz-pc": ("10.0.0.10", INTERNET),
        "guest-pc": (INTERNET,),
    }
    denied = {
        "dmz-pc": ("10.1.8.50",),
        "guest-pc": ("10.0.0.10", "10.1.8.50", "10.255.0.1"),
        "internet": ("10.1.8.50",),
    }
    for host, targets in allowed.items():
        for target in targets:
            assert vpn.answers(host, target), f"{host} to {target}"
    for host, targets in denied.items():
        for target in targets:
            assert not vpn.answers(host, target), f"{host} to {target}"
    assert vpn.answers("core-pc", "10.1.8.50"), "from the core"


def test_both_uplinks_and_all_of_the_links_are_there(vpn: Vpn) -> None:
    for name in ("isp1", "isp2"):
        until(f"{name} to be online", lambda name=name: _uplink(vpn, name).state == "online", within_s=90)
    assert set(_uplink(vpn, "isp1").tunnels) == {"gre1 to hub1", "gre1 to hub2"}
    said = vpn.dmvpn("vpnc", "status").text
    for device in ("bond0.3", "bond0.8", "bond0.64", "bond0.80", "bond0.96", "bond0.256", "bond0.257"):
        assert f" on {device}" in said


def _uplink(vpn: Vpn, name: str) -> UplinkRow:
    return next(row for row in vpn.status("vpnc").uplinks if row.name == name)


def test_the_second_hub_has_the_cores_gateway_when_the_first_dies(vpn: Vpn) -> None:
    assert [row.here for row in vpn.status("hub1").gateways] == [True]
    for device in ("bond0.8", "bond0.256"):
        assert vpn.run("hub1", "ip", "link", "set", device, "down").status == 0
    until("the second hub to have it", lambda: vpn.status("hub2").gateways[0].here, within_s=MOVED_S)
    until("the core by the second hub", lambda: vpn.answers("lan-pc", "10.0.0.10"), within_s=2 * MOVED_S)
