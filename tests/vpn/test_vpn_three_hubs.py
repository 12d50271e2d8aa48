"""Three hubs of one AS: the first hears of the second's spokes by the third when it has lost its own ways to both."""

import time
from functools import partial

import pytest
from vpn_lab import Figure, Vpn, until

NETWORK = "three-hubs"
pytestmark = pytest.mark.lab
LAN, HOST = "10.1.12.0/24", "10.1.12.10"
SPOKE = "10.255.1.12"
HUBS = {"hub1": "10.255.1.1", "hub2": "10.255.1.2", "hub3": "10.255.1.3"}
LIMIT_S = 20.0
AGAIN_LIMIT_S = 60.0


def test_every_hub_has_the_spokes_network_by_the_spoke_itself(vpn: Vpn) -> None:
    for hub in HUBS:
        until(f"{hub} has it", partial(_leads, vpn, hub, SPOKE), within_s=10)
        assert vpn.answers(hub, HOST)


def test_by_another_hub_a_way_counts_as_longer(vpn: Vpn) -> None:
    """The page's `set metric +100`: the hub that a spoke called is taken."""
    paths = {path["peer"]["peerId"]: path for path in vpn.vtysh("hub1", f"show bgp ipv4 unicast {LAN} json")["paths"]}
    assert set(paths) == {SPOKE, HUBS["hub2"], HUBS["hub3"]}
    assert {paths[HUBS[hub]]["metric"] for hub in ("hub2", "hub3")} == {100}
    assert (paths[SPOKE].get("metric", 0), paths[SPOKE]["bestpath"]["overall"]) == (0, True)


def test_a_hub_without_a_path_to_the_second_reaches_its_spoke_by_the_third(vpn: Vpn, figure: Figure) -> None:
    cut = (("par1", "hub1"), ("par1", "hub3"), ("hub1", "hub2"))
    began = time.monotonic()
    for pair in cut:
        vpn.lab.cut_path(*pair)
    try:
        until("an answer by the third", partial(_leads, vpn, "hub1", HUBS["hub3"]), within_s=LIMIT_S)
        until("its packets arrive", partial(_arrives, vpn), within_s=LIMIT_S)
        figure(
            "of three hubs the first is cut off from the second and a spoke: by the third after",
            time.monotonic() - began,
        )
        assert _leads(vpn, "hub3", HUBS["hub2"])
        assert _leads(vpn, "hub2", SPOKE)
        assert [path["originatorId"] for path in _reflected(vpn)] == [_router_id(vpn, "hub2")]
    finally:
        for pair in cut:
            vpn.lab.heal_path(*pair)
    until("the way by the spoke itself", partial(_leads, vpn, "hub1", SPOKE), within_s=AGAIN_LIMIT_S)
    vpn.settle()


def _arrives(vpn: Vpn) -> bool:
    """One way: the hub has no network behind it, and the spoke's answers to the hub itself go where it was cut."""
    counted = "add table inet counted; add chain inet counted in { type filter hook input priority 0; }; "
    rule = f"add rule inet counted in ip saddr {HUBS['hub1']} icmp type echo-request counter"
    assert vpn.run("paris-pc", "nft", counted + rule).status == 0
    try:
        vpn.answers("hub1", HOST)
        return "packets 1" in vpn.run("paris-pc", "nft", "list", "table", "inet", "counted").text
    finally:
        assert vpn.run("paris-pc", "nft", "delete", "table", "inet", "counted").status == 0


def _leads(vpn: Vpn, hub: str, next_hop: str) -> bool:
    return f"{HOST} via {next_hop} " in vpn.run(hub, "ip", "route", "get", HOST).text


def _router_id(vpn: Vpn, hub: str) -> str:
    return str(vpn.vtysh(hub, "show bgp ipv4 unicast summary json")["routerId"])


def _reflected(vpn: Vpn) -> list[dict[str, str]]:
    """The paths to the spoke's network that came to the first hub by way of a reflector."""
    return [path for path in vpn.vtysh("hub1", f"show bgp ipv4 unicast {LAN} json")["paths"] if "originatorId" in path]
