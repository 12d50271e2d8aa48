"""Three hubs of one AS: the first hears of the second's spokes by the third when it has lost its own ways to both."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
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


@pytest.mark.parametrize(
    ("told", "taken"),
    [
        pytest.param({"hub1": 50}, SPOKE, id="by another hub it is 100 more"),
        pytest.param({"hub1": 150, "hub2": 20}, HUBS["hub3"], id="by the third it is the least"),
        pytest.param({"hub1": 150, "hub3": 20}, HUBS["hub2"], id="by the second it is the least"),
    ],
)
def test_of_one_as_the_med_decides_by_which_hub(vpn: Vpn, told: dict[str, int], taken: str) -> None:
    """The spoke says so: before MED is compared all three ways are alike, and behind it the spoke's own would win."""
    with _told(vpn, told):
        heard = {HUBS[hub]: told.get(hub, 0) + 100 for hub in ("hub2", "hub3")} | {SPOKE: told["hub1"]}
        until("the MEDs are heard", lambda: _meds(vpn) == heard, within_s=15)
        until(f"by {taken}", partial(_leads, vpn, "hub1", taken), within_s=15)
        assert vpn.answers("hub1", HOST)
        assert _leads(vpn, "hub1", taken), "for good"
    until("the way by the spoke itself", partial(_leads, vpn, "hub1", SPOKE), within_s=15)


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


@contextmanager
def _told(vpn: Vpn, told: dict[str, int]) -> Iterator[None]:
    """The spoke gives the hubs these MEDs for its network."""
    maps = [line for med in told.values() for line in (f"route-map med-{med} permit 10", f"set metric {med}", "exit")]
    family = ["router bgp 65002", "address-family ipv4 unicast"]
    lines = [f"neighbor {HUBS[hub]} route-map med-{med} out" for hub, med in told.items()]
    vpn.configure("par1", ["conf t", *maps, *family, *lines])
    try:
        yield
    finally:
        gone = [f"no route-map med-{med}" for med in told.values()]
        vpn.configure("par1", ["conf t", *family, *(f"no {line}" for line in lines), "exit", "exit", *gone])


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


def _meds(vpn: Vpn) -> dict[str, int]:
    """Of the first hub's paths to the spoke's network, by whom it has them from."""
    paths = vpn.vtysh("hub1", f"show bgp ipv4 unicast {LAN} json")["paths"]
    return {path["peer"]["peerId"]: path.get("metric", 0) for path in paths}


def _router_id(vpn: Vpn, hub: str) -> str:
    return str(vpn.vtysh(hub, "show bgp ipv4 unicast summary json")["routerId"])


def _reflected(vpn: Vpn) -> list[dict[str, str]]:
    """The paths to the spoke's network that came to the first hub by way of a reflector."""
    return [path for path in vpn.vtysh("hub1", f"show bgp ipv4 unicast {LAN} json")["paths"] if "originatorId" in path]
