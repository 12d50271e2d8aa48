"""Networks behind other routers of a site's LAN, told by each protocol, and a cloud of OSPF that takes one of BGP's."""

import os
from collections.abc import Iterator

import pytest
from vpn_lab import NETWORKS, UP_LIMIT_S, Vpn, until

from dmvpn.doctor.report import Outcome
from dmvpn.operations import labs

pytestmark = pytest.mark.lab

BEHIND = {"paris-pc": "10.6.0.1", "oslo-pc": "10.7.0.1", "lyon-pc": "10.8.0.1"}  # by OSPF, BGP and RIP
ROUTES_S = 45.0


@pytest.fixture(scope="module")
def vpn() -> Iterator[Vpn]:
    """Each spoke's host plays the router that the network is behind."""
    with labs.held(NETWORKS["taken"], f"vpn-taken-{os.getpid()}", lambda _progress: None) as lab:
        vpn = Vpn(lab)
        for host, address in BEHIND.items():
            assert vpn.run(host, "ip", "address", "add", f"{address}/24", "dev", "lo").status == 0
        for router in vpn.routers():
            up = f"the hub of {router}"
            until(up, lambda: all(hub.state == "up" for hub in vpn.status(router).hubs), within_s=UP_LIMIT_S)  # noqa: B023
        yield vpn
        vpn.assert_no_traceback()


@pytest.mark.parametrize("address", BEHIND.values(), ids=["OSPF", "BGP", "RIP"])
def test_a_network_behind_a_site_is_reached_from_the_hub(vpn: Vpn, address: str) -> None:
    until(f"an answer of {address}", lambda: vpn.answers("hq-pc", address), within_s=ROUTES_S)


def test_a_cloud_that_takes_another_reaches_it_and_is_reached(vpn: Vpn) -> None:
    for host, address in (("paris-pc", BEHIND["oslo-pc"]), ("oslo-pc", BEHIND["paris-pc"])):
        until(f"an answer of {address}", lambda: vpn.answers(host, address), within_s=ROUTES_S)  # noqa: B023
    assert not vpn.answers("paris-pc", BEHIND["lyon-pc"]), "nobody takes the third cloud"


def test_the_doctor_finds_all_three_protocols_well(vpn: Vpn) -> None:
    found = {finding.check: finding for router in ("hq1", "lyo1") for finding in vpn.examined(router)}
    assert [one for one in found.values() if one.outcome is not Outcome.OK] == []
    assert found["RIP in red"].what == "1 spokes tell of their routes"
    assert "told of its routes" in found["RIP with hq1"].what
