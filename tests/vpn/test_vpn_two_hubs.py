"""Two hubs: spokes know both, and losing one costs seconds, not shortcuts."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from vpn_lab import Figure, Vpn, until

NETWORK = "hubs"
pytestmark = pytest.mark.lab
FAILOVER_LIMIT_S = 45.0  # BGP's hold time is 30 s


def test_a_spoke_is_registered_with_both_hubs(vpn: Vpn) -> None:
    for spoke in ("par1", "lyo1"):
        assert {(hub.router, hub.state) for hub in vpn.status(spoke).hubs} == {("hq1", "up"), ("res1", "up")}
    for hub in ("hq1", "res1"):
        clients = {row.name: row.state.value for row in vpn.status(hub).peers if row.kind == "client"}
        assert clients == {"par1": "direct", "lyo1": "direct"}


def test_a_shortcut_does_not_notice_that_a_hub_is_gone(vpn: Vpn) -> None:
    with vpn.flow("paris-pc", "lyon-pc") as flow:
        flow.until("direct", within_s=15)
        flow.mark()
        with _stopped(vpn, _hub_of(vpn, "par1")) as hub:
            until(f"{hub} is missed", lambda: hub in _missed(vpn, "par1"), within_s=30)
            flow.until("direct", within_s=5)
            status = vpn.dmvpn("par1", "status")
        assert flow.lost() == []
        assert all(packet.direct for packet in flow.stream.stretch())
    assert status.status == 3, "one of two hubs is a warning"
    assert status.text.splitlines()[-1].startswith(f"hub {hub} is connecting")


def test_what_must_be_relayed_goes_by_the_other_hub(vpn: Vpn, figure: Figure) -> None:
    vpn.lab.cut_path("par1", "lyo1")
    with vpn.flow("paris-pc", "lyon-pc") as flow:
        flow.until("relayed", within_s=15)
        assert vpn.dmvpn(_hub_of(vpn, "par1"), "stop").status == 0
        figure("one of two hubs stopped: by the other after", flow.until("relayed", within_s=FAILOVER_LIMIT_S))


@contextmanager
def _stopped(vpn: Vpn, hub: str) -> Iterator[str]:
    assert vpn.dmvpn(hub, "stop").status == 0
    try:
        yield hub
    finally:
        assert vpn.dmvpn(hub, "run").status == 0
        vpn.settle()


def _missed(vpn: Vpn, router: str) -> set[str]:
    return {hub.router for hub in vpn.status(router).hubs if hub.state != "up"}


def _hub_of(vpn: Vpn, router: str) -> str:
    """The hub that the summary leads to."""
    route = vpn.run(router, "ip", "route", "get", "10.99.0.1").text.split()
    addresses = {"10.255.1.1": "hq1", "10.255.1.2": "res1"}
    return addresses.get(route[route.index("via") + 1], "") if "via" in route else ""
