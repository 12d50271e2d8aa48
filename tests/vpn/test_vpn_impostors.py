"""Routers whose certificate says less than they do: every claim is held against it, wherever it is used."""

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from vpn_lab import NETWORKS, Vpn, until, until_nothing

from dmvpn.daemon.control import WhyNot
from dmvpn.identity import authority
from dmvpn.lab import lifecycle
from dmvpn.network.plan import Plan
from dmvpn.operations import labs, pki, reading
from dmvpn.operations.labs import Papers
from dmvpn.operations.reading import NetworkFile

pytestmark = pytest.mark.lab

# What the certificate has instead of what the file gives the router.
LESS: dict[str, dict[str, Any]] = {
    "hel1": {"overlay": (ip_address("10.255.1.99"),)},
    "par1": {"prefixes": (ip_network("10.1.99.0/24"),)},
}


def _papers(file: NetworkFile, plans: dict[str, Plan]) -> dict[str, Papers]:
    now = datetime.now(UTC)
    ca, ca_key = authority.create_authority(file.network.network, file.network.transport, now=now)
    found = {}
    for router, plan in plans.items():
        claims = replace(pki.claims_of(plan), **LESS.get(router, {}))
        certificate, key = authority.issue(ca, ca_key, claims, plan.ike.identity, now=now)
        assert key is not None
        found[router] = Papers(ca, certificate, key)
    return found


@pytest.fixture(scope="module")
def vpn() -> Iterator[Vpn]:
    """The demo network with two routers that its authority trusts less than its file does."""
    file = reading.read(NETWORKS["demo"])
    plans = reading.plans(file)
    configure = partial(labs._configure, file, plans, _papers(file, plans))
    name = f"vpn-impostors-{os.getpid()}"
    with lifecycle.held(file.network.lab, tuple(plans.values()), name=name, file="demo", configure=configure) as lab:
        vpn = Vpn(lab)
        for router in ("par1", "lyo1", "osl1"):
            until_nothing(f"{router} to settle", partial(vpn.unsettled, router), within_s=30)
        yield vpn
        vpn.assert_no_traceback()


def test_an_overlay_address_of_another_is_not_registered(vpn: Vpn) -> None:
    until("the hub counts it", lambda: vpn.drops("hq1").get("nhrp not-authorised"), within_s=15)
    assert "10.255.1.11" not in {row.protocol for row in vpn.status("hq1").cache}
    assert "10.255.1.11 refused: hel1 claims 10.255.1.99" in vpn.logs("hq1")["dmvpn-acme-dmvpnd.log"]
    until("hel1 knows it is refused", lambda: vpn.status("hel1").hubs[0].state == "down", within_s=15)
    answer = vpn.dmvpn("hel1", "status")
    assert answer.status == 1
    assert answer.text.splitlines()[-1].startswith("hub hq1 is down (")
    assert "nhrp not-authorised" in vpn.dmvpn("hq1", "status").text
    assert vpn.json("hq1", "status")["clouds"][0]["drops"]["nhrp not-authorised"] >= 1


def test_a_prefix_of_another_gets_no_shortcut(vpn: Vpn) -> None:
    with vpn.flow("lyon-pc", "paris-pc"):
        until("lyo1 refuses it", lambda: vpn.drops("lyo1").get("nhrp not-authorised"), within_s=20)
        until("it is told", lambda: _why(vpn, "lyon", "10.1.12.10") == WhyNot.NOT_AUTHORISED, within_s=10)
    rows = {row.why for row in vpn.status("lyo1").peers if row.kind == "shortcut" and row.state.value != "direct"}
    assert rows == {WhyNot.NOT_AUTHORISED}
    assert "10.1.12" not in vpn.run("lyo1", "ip", "route", "show", "table", "all", "via", "10.255.1.12").text


def _why(vpn: Vpn, one: str, other: str) -> str:
    return str(vpn.json("lyo1", "explain", one, other)[0]["why"])


def test_an_inner_source_of_another_is_dropped_by_whom_it_reaches(vpn: Vpn) -> None:
    """paris-pc's own address is not in par1's certificate; nor is Lyon's in osl1's, whose host borrows it."""
    before = vpn.drops("hq1").get("gre source", 0)
    assert vpn.run("paris-pc", "ping", "-c", "3", "-i", "0.2", "-W", "1", "10.1.0.10").status == 1
    until("the hub counts it", lambda: vpn.drops("hq1").get("gre source", 0) >= before + 3, within_s=5)
    vpn.run("osl1", "ip", "address", "add", "10.1.13.66/32", "dev", "lo")
    before = vpn.drops("hq1").get("gre source", 0)
    assert vpn.run("osl1", "ping", "-c", "3", "-i", "0.2", "-W", "1", "-I", "10.1.13.66", "10.1.0.10").status == 1
    until("the hub counts it", lambda: vpn.drops("hq1").get("gre source", 0) >= before + 3, within_s=5)
    assert vpn.run("osl1", "ping", "-c", "1", "-W", "2", "10.1.0.10").status == 0
