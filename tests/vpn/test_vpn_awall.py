"""awall's files as the policy of routers that run: the VPN as ever, and the files' rules for what goes through it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from vpn_lab import NETWORKS, Vpn, settled_lab

pytestmark = pytest.mark.lab

GUEST = "10.1.96.10"  # nobody is told the way there
ZONES = """{
  "zone": {
    "E": { "iface": "eth0" },
    "B": { "iface": "eth1" },
    "G": { "iface": "eth2" },
    "A": { "iface": "walls-blue", "addr": "10.0.0.0/8", "route-back": true }
  }
}
"""
RULES = """import: zones
filter:
  - {in: [A, B], out: _fw, service: ping}
policy:
  - {in: B, out: [A, E], action: accept}
  - {in: A, out: [A, B], action: accept}
  - {in: G, out: E, action: accept}
snat: {out: E}
"""
NO_MAIL = RULES.replace("filter:\n", "filter:\n  - {in: B, out: A, service: smtp, action: reject}\n")


@pytest.fixture(scope="module")
def text() -> str:
    return NETWORKS["walls"].read_text().replace("policy: {}", "policy: {awall: [awall/zones.json, awall/rules.yaml]}")


@pytest.fixture(scope="module")
def vpn(tmp_path_factory: pytest.TempPathFactory, text: str) -> Iterator[Vpn]:
    path = tmp_path_factory.mktemp("awall") / "network.yaml"
    path.write_text(text)
    (path.parent / "awall").mkdir()
    (path.parent / "awall" / "zones.json").write_text(ZONES)
    (path.parent / "awall" / "rules.yaml").write_text(RULES)
    with settled_lab(path, "awall", untold=[GUEST]) as vpn:
        yield vpn


def test_two_sites_become_direct(vpn: Vpn) -> None:
    with vpn.flow("paris-pc", "lyon-pc") as flow:
        flow.until("direct", within_s=10)
        assert flow.lost() == []


def test_the_files_say_who_reaches_whom(vpn: Vpn) -> None:
    assert vpn.answers("paris-pc", "10.1.12.1"), "B to the router"
    assert vpn.answers("paris-pc", "192.0.2.1"), "B to E, by the uplink's address"
    assert vpn.answers("paris-guest", "192.0.2.1"), "G to E"
    assert not vpn.answers("paris-guest", "10.1.96.1"), "G to the router"
    assert not vpn.answers("paris-guest", "10.1.13.10"), "G to A"
    assert not vpn.answers("paris-pc", GUEST), "B to G"
    dropped = vpn.status("par1").guards
    assert dropped["dropped.in.G"] > 0
    assert dropped["dropped.through.G"] > 0


def test_a_changed_file_is_a_change_of_the_router(vpn: Vpn, text: str) -> None:
    vpn.run("par1", "mkdir", "-p", "/run/new/awall")
    for name, content in (("network.yaml", text), ("awall/zones.json", ZONES), ("awall/rules.yaml", NO_MAIL)):
        vpn.write("par1", f"/run/new/{name}", content)
    planned = vpn.dmvpn("par1", "plan", "/run/new/network.yaml")
    assert "reject from B to A service smtp" in planned.text
    assert vpn.dmvpn("par1", "apply", "/run/new/network.yaml").status == 0
    assert vpn.connects("paris-pc", "10.1.13.10", 25) == "ECONNREFUSED"
    assert vpn.status("par1").guards["dropped.rules.yaml.3.5"] > 0
    assert vpn.dmvpn("par1", "rollback").status == 0
    assert vpn.read("par1", str(Path(vpn.layout.current) / "beside" / "awall" / "rules.yaml")) == RULES
