"""The derived zone policy on routers that run: the VPN as without it, guests outside, nothing in from the Internet."""

from collections.abc import Iterator

import pytest
from vpn_lab import NETWORKS, Vpn, on_this_kernel, settled_lab, until

from dmvpn.linux.pace import patience

pytestmark = [pytest.mark.lab, pytest.mark.both_planes(vm_is_wide=True)]

GUEST = "10.1.96.10"  # nobody is told the way there
WAN = "192.0.2.1"  # the Internet, as far as this lab has one
GUESTS = {
    "10.1.13.10": "another site",
    "10.1.12.10": "the LAN beside",
    "10.255.1.1": "the overlay",
    "10.1.0.10": "the hub's",
}


@pytest.fixture(scope="module")
def text() -> str:
    return on_this_kernel(NETWORKS["walls"].read_text())


@pytest.fixture(scope="module")
def vpn(tmp_path_factory: pytest.TempPathFactory, text: str) -> Iterator[Vpn]:
    path = tmp_path_factory.mktemp("walls") / "network.yaml"
    path.write_text(text)
    with settled_lab(path, "walls", untold=[GUEST]) as vpn:
        yield vpn


def test_the_vpn_is_as_without_a_policy(vpn: Vpn) -> None:
    """Two sites become direct and lose nothing; BGP and BFD are up; nothing of it is dropped anywhere."""
    with vpn.flow("paris-pc", "lyon-pc") as flow:
        flow.until("direct", within_s=10)
        assert len(flow.lost()) < patience(1), "none, or as many as pass while this machine would send one"
    for router in vpn.routers():
        counters = vpn.status(router).guards
        stopped = {name: count for name, count in counters.items() if name.startswith("dropped.") and count}
        assert not [name for name in stopped if "vpn" in name or "elsewhere" in name], f"{router}: {stopped}"


def test_guests_have_the_internet_and_nothing_else(vpn: Vpn) -> None:
    assert vpn.answers("paris-guest", WAN), "by the uplink's address"
    assert vpn.answers("paris-guest", "10.1.96.1"), "their gateway"
    for address, what in GUESTS.items():
        assert not vpn.answers("paris-guest", address), what
    assert not vpn.answers("paris-pc", GUEST), "nor do others reach them"
    assert vpn.connects("paris-guest", "10.1.96.1", 2332) == "silence"
    dropped = vpn.status("par1").guards
    assert dropped["dropped.through.internet-only"] >= len(GUESTS) - 1
    for command in (("explain", "lyon", GUEST), ("doctor", GUEST)):
        told = vpn.dmvpn("lyo1", *command)
        words = b"is in paris.guest, zone internet-only: no tunnel carries it"
        assert (told.status, words in told.stderr) == (2, True), told
    said = vpn.dmvpn("par1", "status").text
    assert "firewall: policy in force, dropped since it was loaded: " in said
    assert "from internet-only " in said


def test_nothing_comes_in_from_the_internet(vpn: Vpn) -> None:
    assert vpn.answers("internet", "198.51.100.2"), "a ping is no secret"
    for port in (179, 2332):
        assert vpn.connects("internet", "198.51.100.2", port) == "silence", port
    assert vpn.status("par1").guards["dropped.in.internet"] > 0


def test_a_change_of_the_policy_drops_nothing_of_what_goes_on(vpn: Vpn, text: str) -> None:
    stricter = text.replace("policy: {}", "policy: {rules: [{in: lan, out: vpn, service: smtp, action: reject}]}")
    vpn.write("par1", "/run/walls.yaml", stricter)
    planned = vpn.dmvpn("par1", "plan", "/run/walls.yaml")
    assert "par1: rules: gains reject from lan to vpn service smtp" in planned.text
    assert "connections that are still allowed go on" in planned.text
    with vpn.flow("paris-pc", "lyon-pc", interval_s=0.005) as flow:
        flow.until("direct", within_s=10)
        flow.mark()
        assert vpn.dmvpn("par1", "apply", "/run/walls.yaml").status == 0
        assert flow.lost() == []
    assert vpn.connects("paris-pc", "10.1.13.10", 25) == "ECONNREFUSED", "rejected"
    assert vpn.status("par1").guards["dropped.policy.rules.0"] > 0
    until("the rules to be whole", lambda: _whole(vpn), within_s=10)


def _whole(vpn: Vpn) -> bool:
    rules = vpn.status("par1").rules
    return rules is not None and rules.damaged_s is None and rules.mended == 0


def test_guests_stay_outside_when_the_rules_come_back(vpn: Vpn) -> None:
    """Somebody flushed the rule set: dmvpnd has it loaded again, policy and all."""
    assert vpn.run("par1", "nft", "flush", "ruleset").status == 0
    until("the policy's counters", lambda: "dropped.in.internet" in vpn.status("par1").guards, within_s=10)
    assert not vpn.answers("paris-guest", "10.1.13.10")
