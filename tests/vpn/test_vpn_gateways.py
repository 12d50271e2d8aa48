"""Two routers share a site's gateways, IPv4 and IPv6: one dies, returns, and the file changes, while hosts talk."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from vpn_lab import NETWORKS, UP_LIMIT_S, Vpn, settled_lab, until

from dmvpn.doctor.report import Outcome

pytestmark = pytest.mark.lab

FIRST, SECOND = "par1", "par2"
GATEWAYS = ("10.1.12.1", "fd00:12::1")
HOSTS = {"hq-pc": ("fd00:1::10/64", "fd00:1::1"), "paris-pc": ("fd00:12::10/64", "fd00:12::1")}
OTHER_SITE = {4: "10.1.0.10", 6: "fd00:1::10"}
EVERY_S = 0.1
MOVED_S = 20.0
# Three advertisements missed, the cloud found dead by BFD, and for IPv6 the new owner's advertisement on the LAN.
LOST_LIMIT = 60


@pytest.fixture(scope="module")
def text() -> str:
    return NETWORKS["gateways"].read_text()


@pytest.fixture(scope="module")
def vpn(tmp_path_factory: pytest.TempPathFactory, text: str) -> Iterator[Vpn]:
    path = tmp_path_factory.mktemp("gateways") / "network.yaml"
    path.write_text(text)
    with settled_lab(path, "gates") as vpn:
        for host, (address, gateway) in HOSTS.items():
            for words in (
                ("address", "add", address, "dev", "eth0", "nodad"),
                ("route", "add", "default", "via", gateway),
            ):
                done = vpn.run(host, "ip", "-6", *words)
                assert done.status == 0, done
        until("the first router to have both", lambda: owned(vpn, FIRST) == set(GATEWAYS), within_s=MOVED_S)
        until("it to offer all it has", lambda: vpn.status(FIRST).gateways[0].offers == 200, within_s=MOVED_S)
        yield vpn


def owned(vpn: Vpn, router: str) -> set[str]:
    """Gateways that the router says it has; those that its device has must be the same."""
    said = {row.address.partition("/")[0] for row in vpn.status(router).gateways if row.here}
    shown = json.loads(vpn.run(router, "ip", "-json", "address", "show", "dev", "eth1").stdout)
    there = {one["local"] for link in shown for one in link["addr_info"] if not one.get("tentative")}
    return said & there if said == there & set(GATEWAYS) else set()


@dataclass(slots=True)
class Pings:
    """Of one family, from Paris to the other site. `lost` once they have ended."""

    version: int
    sent: int = 0
    lost: list[int] = field(default_factory=list)

    def run(self, vpn: Vpn, seconds: float) -> None:
        count = str(round(seconds / EVERY_S))
        argv = ("ping", f"-{self.version}", "-n", "-i", str(EVERY_S), "-c", count, "-W", "2", OTHER_SITE[self.version])
        text = vpn.run("paris-pc", *argv, timeout_s=seconds + 60).text
        answered = {int(number) for number in re.findall(r"icmp_seq=(\d+) ttl=", text)}
        self.sent = int(count)
        self.lost = [number for number in range(1, self.sent + 1) if number not in answered]


@contextmanager
def talking(vpn: Vpn, seconds: float) -> Iterator[tuple[Pings, Pings]]:
    """A ping every 100 ms in both families for so long; the block may end before."""
    both = Pings(4), Pings(6)
    threads = [threading.Thread(target=one.run, args=(vpn, seconds)) for one in both]
    for thread in threads:
        thread.start()
    try:
        yield both
    finally:
        for thread in threads:
            thread.join()


def power(vpn: Vpn, router: str, *, on: bool) -> None:
    """As it looks to all others: each cable in or out; what the kernel forgot is put back by who keeps it."""
    for link in json.loads(vpn.run(router, "ip", "-json", "link", "show", "type", "veth").stdout):
        vpn.run(router, "ip", "link", "set", link["ifname"], "up" if on else "down")
    if on:
        vpn.reload_service(router, "network")


def moves(vpn: Vpn) -> int:
    """How often either router's keepalived has changed its mind."""
    return sum(vpn.logs(router)[f"dmvpn-{vpn.lab.network}-vrrp.log"].count(" STATE") for router in (FIRST, SECOND))


def test_the_first_router_has_both_and_its_partner_neither(vpn: Vpn) -> None:
    assert owned(vpn, SECOND) == set()
    assert [(row.offers, row.usual) for row in vpn.status(FIRST).gateways] == [(200, 200)] * 2
    for version, target in OTHER_SITE.items():
        assert vpn.answers("paris-pc", target), f"IPv{version}"
    assert {row.bgp for row in vpn.status(FIRST).peers} == {"Established"}, "of both families"
    assert f"{GATEWAYS[0]}/24 (shared gateway)" in vpn.dmvpn(FIRST, "status").text
    found = {one.check: one for router in (FIRST, SECOND) for one in vpn.examined(router)}
    assert [one for one in found.values() if one.outcome is not Outcome.OK] == []
    assert found[f"BGP with {FIRST} of this site"].what == "established"
    assert {found[f"gateway {address}"].what for address in GATEWAYS} == {"another router of the site has it"}


def test_the_doctor_finds_a_gateway_that_two_routers_have_and_one_that_nobody_has(vpn: Vpn) -> None:
    by_hand = (f"{GATEWAYS[0]}/24", "dev", "eth1")
    vpn.run(SECOND, "ip", "address", "add", *by_hand)
    both = {one.check: one.what for one in vpn.examined(FIRST)}
    vpn.run(SECOND, "ip", "address", "del", *by_hand)
    assert both[f"gateway {GATEWAYS[0]}"] == "this router has it, and another on eth1 has it too"
    for router in (SECOND, FIRST):
        vpn.stop_service(router, "vrrp")
    nobody = {one.check: one.what for one in vpn.examined(SECOND)}
    for router in (FIRST, SECOND):
        vpn.start_service(router, "vrrp")
    assert {nobody[f"gateway {one}"] for one in GATEWAYS} == {"nobody on eth1 has it: hosts reach no other network"}
    until("the first router to have both again", lambda: owned(vpn, FIRST) == set(GATEWAYS), within_s=MOVED_S)
    until("it to offer all it has", lambda: vpn.status(FIRST).gateways[0].offers == 200, within_s=MOVED_S)


def test_its_partner_takes_both_when_it_dies_and_gives_them_back(vpn: Vpn) -> None:
    with talking(vpn, 25) as both:
        power(vpn, FIRST, on=False)
        until("the second to have both", lambda: owned(vpn, SECOND) == set(GATEWAYS), within_s=MOVED_S)
    for pings in both:
        assert len(pings.lost) < LOST_LIMIT, f"IPv{pings.version}: {pings.lost}"
        assert pings.sent not in pings.lost
    lost = "BGP with 10.1.12.2, fd00:12::2, of this site, is not established"
    until("a word of the lost partner", lambda: lost in str(vpn.status(SECOND).troubles), within_s=MOVED_S)
    with talking(vpn, 25) as both:
        power(vpn, FIRST, on=True)
        until("the first to have both again", lambda: owned(vpn, FIRST) == set(GATEWAYS), within_s=MOVED_S)
    for pings in both:
        assert len(pings.lost) < LOST_LIMIT / 4, f"IPv{pings.version}: {pings.lost}"
    until("all routes again", lambda: not vpn.unsettled(FIRST), within_s=UP_LIMIT_S)


def test_a_router_without_a_tunnel_gives_both_away(vpn: Vpn) -> None:
    """Its LAN is well, and the site's hosts would go nowhere."""
    with talking(vpn, 20) as both:
        vpn.run(FIRST, "ip", "link", "set", "eth0", "down")
        until("the second to have both", lambda: owned(vpn, SECOND) == set(GATEWAYS), within_s=MOVED_S)
        assert vpn.status(FIRST).gateways[0].offers == 100
    for pings in both:
        assert len(pings.lost) < LOST_LIMIT, f"IPv{pings.version}: {pings.lost}"
    vpn.run(FIRST, "ip", "link", "set", "eth0", "up")
    vpn.reload_service(FIRST, "network")
    until("the first to have both again", lambda: owned(vpn, FIRST) == set(GATEWAYS), within_s=2 * MOVED_S)


def test_a_router_whose_port_in_the_network_is_dead_is_sent_nothing_for_it(vpn: Vpn) -> None:
    """Its tunnel is well, and the cloud that is preferred would bring it what it cannot hand on."""
    at_switch = port_at_switch(vpn, FIRST)
    with talking(vpn, 20) as both:
        vpn.run("paris-lan-switch", "ip", "link", "set", at_switch, "down")
        until("the second to have both", lambda: owned(vpn, SECOND) == set(GATEWAYS), within_s=MOVED_S)
        until("the other site to go by the second", lambda: "dev gates-green" in way_back(vpn), within_s=MOVED_S)
        found = [one for one in vpn.examined(FIRST) if one.check == "network lan"]
        assert [one.outcome for one in found] == [Outcome.FAILED]
    for pings in both:
        assert len(pings.lost) < LOST_LIMIT, f"IPv{pings.version}: {pings.lost}"
        assert pings.sent not in pings.lost
    vpn.run("paris-lan-switch", "ip", "link", "set", at_switch, "up")
    until("the first to have both again", lambda: owned(vpn, FIRST) == set(GATEWAYS), within_s=2 * MOVED_S)
    until("all routes again", lambda: not vpn.unsettled(FIRST), within_s=UP_LIMIT_S)
    until("the other site to go by the first again", lambda: "dev gates-blue" in way_back(vpn), within_s=MOVED_S)


def port_at_switch(vpn: Vpn, router: str) -> str:
    """What the other end of the router's cable is plugged into."""
    (own,) = json.loads(vpn.run(router, "ip", "-json", "link", "show", "dev", "eth1").stdout)
    ports = json.loads(vpn.run("paris-lan-switch", "ip", "-json", "link", "show").stdout)
    return next(str(port["ifname"]) for port in ports if port["ifindex"] == own["link_index"])


def way_back(vpn: Vpn) -> str:
    return vpn.run("hq1", "ip", "route", "get", "10.1.12.10").text


def test_a_change_of_the_file_moves_no_gateway_and_costs_no_packet(vpn: Vpn, text: str) -> None:
    """keepalived reads its file again: at the partner first, then where the gateways are."""
    changed = text.replace("domain: example.net", "domain: example.net\nsystem: {vrrp: {advertise: 200ms}}")
    pid = {router: vpn.services(router)["vrrp"].pid for router in (FIRST, SECOND)}
    with talking(vpn, 15) as both:
        for router in (SECOND, FIRST):
            vpn.write(router, "/run/gates.yaml", changed)
            done = vpn.dmvpn(router, "apply", "/run/gates.yaml")
            assert done.status == 0, done.text
            assert "advert_int 0.2" in vpn.read(router, f"{vpn.layout.current}/keepalived.conf")
        assert owned(vpn, FIRST) == set(GATEWAYS)
        assert owned(vpn, SECOND) == set()
    assert {router: vpn.services(router)["vrrp"].pid for router in (FIRST, SECOND)} == pid, "reloaded, not restarted"
    assert [pings.lost for pings in both] == [[], []]


def test_neither_a_new_dmvpnd_nor_a_new_watcher_gives_a_gateway_away(vpn: Vpn, text: str) -> None:
    """A dmvpnd that starts knows of no SA yet: that is not the loss of one."""
    before, old = moves(vpn), {name: vpn.services(FIRST)[name].pid for name in ("dmvpnd", "gateway")}
    with talking(vpn, 15) as both:
        vpn.write(FIRST, "/run/gates.yaml", text.replace("bfd: true,", "bfd: true, nhrp: {holding-time: 900},"))
        done = vpn.dmvpn(FIRST, "apply", "/run/gates.yaml")
        assert done.status == 0, done.text
        assert vpn.services(FIRST)["dmvpnd"].pid != old["dmvpnd"]
        vpn.returned(FIRST, "gateway", vpn.kill(FIRST, "gateway"))
    assert moves(vpn) == before
    assert owned(vpn, FIRST) == set(GATEWAYS)
    assert [pings.lost for pings in both] == [[], []]
