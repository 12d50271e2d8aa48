"""A network whose ISPs lease addresses: it comes up, survives another address, and keeps guests out of the overlay."""

import os
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from vpn_lab import NETWORKS, Figure, Vpn, settled_lab, until

from dmvpn.operations.linkage import Origin

pytestmark = pytest.mark.lab
UP_LIMIT_S = 60.0
HEALED_LIMIT_S = 90.0
GUEST = "10.1.96.10"


@pytest.fixture(scope="module")
def vpn() -> Iterator[Vpn]:
    with settled_lab(NETWORKS["leased"], "leased", untold=[GUEST]) as vpn:
        yield vpn


def leased(vpn: Vpn, router: str) -> list[str]:
    links = vpn.json(router, "status")["links"]
    addresses = next(row["addresses"] for row in links if row["what"] == "uplink isp1")
    return [row["address"] for row in addresses if row["origin"] == Origin.DHCP]


def pings(vpn: Vpn, source: str, target: str) -> bool:
    return vpn.run(source, "ping", "-c", "1", "-W", "2", target).status == 0


def test_the_isps_address_route_and_mtu_are_in_the_kernel(vpn: Vpn) -> None:
    (address,) = leased(vpn, "par1")
    route = vpn.run("par1", "ip", "route", "show", "default").stdout.decode().split()
    assert route[:2] == ["default", "via"]
    pairs = {" ".join(pair) for pair in pairwise(route)}
    assert {"dev bond0.256", "proto dhcp", "metric 100"} <= pairs
    assert address.startswith("198.19.")
    assert "mtu 1400" in vpn.run("osl1", "ip", "route", "show", "default").stdout.decode()
    assert leased(vpn, "osl1") == ["192.168.1.10/24"]


def test_nobodys_resolver_was_touched(vpn: Vpn) -> None:
    """The lab's server names one: the page's own set-up has it overwrite /etc/resolv.conf."""
    assert "192.0.2.53" not in vpn.read("par1", "/etc/resolv.conf")


def test_sites_reach_each_other(vpn: Vpn) -> None:
    for source, target in (("paris", "10.1.0.10"), ("oslo", "10.1.8.10")):
        until(f"{source} to reach {target}", lambda pair=(source, target): pings(vpn, *pair), within_s=UP_LIMIT_S)


def test_plain_links_stand_for_the_vlans_and_status_says_so(vpn: Vpn) -> None:
    said = vpn.dmvpn("par1", "status").stdout.decode()
    assert "bond bond0: not made: this machine has links of its VLANs' names" in said
    assert "network lan: up on bond0.8, 10.1.8.1/24 (static)" in said
    assert "(dhcp)" in said


def test_a_guest_reaches_nothing_internal_and_is_told_at_once(vpn: Vpn) -> None:
    for target in ("10.1.0.10", "10.1.8.10", "10.255.1.1"):
        refused = vpn.run("guest", "ping", "-c", "1", "-W", "5", target)
        assert refused.status == 1
        assert "Packet filtered" in refused.stdout.decode(), target
    assert not pings(vpn, "paris", GUEST)
    assert vpn.json("par1", "status")["guards"]["internet_only"] >= 4


def test_a_guest_reaches_the_internet(vpn: Vpn) -> None:
    """Nothing here translates its address, so the answer is lost: what counts is that its packet gets there."""
    argv = ("tcpdump", "-n", "-c", "1", "-i", "any", "icmp", "and", "src", "host", GUEST)
    with Path(os.devnull).open("wb") as nothing:
        watching = vpn.node("internet").start(argv, stdout=nothing, stderr=nothing)

    def arrived() -> bool:
        pings(vpn, "guest", "198.18.0.1")
        return watching.poll() == 0

    try:
        until("the guest's packet on the WAN", arrived, within_s=30)
    finally:
        watching.stop()


def test_another_address_of_the_isps_heals_by_itself(vpn: Vpn, figure: Figure) -> None:
    (before,) = leased(vpn, "par1")
    began = time.monotonic()
    given = str(vpn.lab.renumber("par1.isp1"))
    until("the new address", lambda: [one.partition("/")[0] for one in leased(vpn, "par1")] == [given], within_s=60)
    leased_s = time.monotonic() - began
    assert not before.startswith(f"{given}/")
    until("a way over it", lambda: pings(vpn, "paris", "10.1.0.10"), within_s=HEALED_LIMIT_S)
    figure("a spoke's ISP gives it another address: it has it after", leased_s)
    figure("... and its site is reached again after", time.monotonic() - began)
