"""bgpd and zebra as rendered, a hub and a spoke on a wire: routes come, filters hold, a reload keeps the session."""

from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
import render_plans as plans
from render_speaker import Speaker, readable
from render_wires import Namespaces, run, wait_for

from dmvpn.linux import vtysh
from dmvpn.render.learned import Learned

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("need_frr")]

# What a spoke must not get through a hub, one by one.
HOSTILE = {
    "10.255.1.0/24": "the overlay",
    "10.255.1.12/32": "another spoke's overlay address",
    "100.64.0.0/16": "the transport range",
    "100.64.0.12/32": "another spoke's transport address",
    "10.1.0.0/24": "the hub's own LAN",
    "10.1.0.128/25": "half of the hub's own LAN",
    "10.0.0.0/8": "the hub's own summary",
    "198.51.100.0/24": "somebody outside",
    "10.1.12.0/24": "another spoke's LAN",
    "10.1.12.128/25": "half of another spoke's LAN",
    "10.1.10.0/23": "its own LAN and somebody's beside it",
    "10.77.0.0/16": "what no certificate has yet",
    "0.0.0.0/0": "everything",
}


@pytest.fixture
def pair(namespaces: Namespaces, tmp_path: Path) -> tuple[Speaker, Speaker]:
    readable(tmp_path)
    hub = Speaker(namespaces, plans.hub(), tmp_path / "hub")
    spoke = Speaker(namespaces, plans.spoke(), tmp_path / "spoke")
    run("ip", "link", "add", "acme-blue", "netns", hub.netns, "type", "veth", "peer", "acme-blue", "netns", spoke.netns)
    run("ip", "-n", hub.netns, "addr", "add", "10.255.1.1/24", "dev", "acme-blue")
    run("ip", "-n", spoke.netns, "addr", "add", "10.255.1.11/32", "dev", "acme-blue")
    hub.start()
    run("ip", "-n", spoke.netns, "link", "set", "acme-blue", "up")
    run("ip", "-n", spoke.netns, "route", "add", "10.255.1.1/32", "dev", "acme-blue", "scope", "link")
    spoke.start()
    wait_for(lambda: hub.kernel_routes() == {"10.1.11.0/24"}, "the hub has the spoke's LAN")
    wait_for(lambda: spoke.kernel_routes() == {"10.0.0.0/8"}, "the spoke has the network's prefixes")
    return hub, spoke


def test_a_reload_brings_new_routes_and_keeps_the_session(pair: tuple[Speaker, Speaker]) -> None:
    hub, spoke = pair
    bgp = spoke.plan.clouds[0].bgp
    assert bgp is not None
    more = replace(bgp, announce=(*bgp.announce, ip_network("10.1.99.0/24")))
    spoke.stage(replace(spoke.plan, clouds=(replace(spoke.plan.clouds[0], bgp=more),)))
    hub.stage(hub.plan, _with(plans.LEARNED, "10.1.99.0/24"))
    hub.reload()
    run("ip", "netns", "exec", spoke.netns, *spoke.argv("bgpd", "reload"))
    wait_for(lambda: hub.kernel_routes() == {"10.1.11.0/24", "10.1.99.0/24"}, "the hub has the new LAN too")
    assert spoke.show("bgp neighbors")["10.255.1.1"]["connectionsEstablished"] == 1


def test_a_hub_speaks_with_nobody_it_has_not_heard_of(pair: tuple[Speaker, Speaker]) -> None:
    hub, spoke = pair
    stranger = {"blue": plans.LEARNED["blue"][1:]}
    hub.stage(hub.plan, stranger)
    hub.reload()
    wait_for(lambda: hub.kernel_routes() == set(), "what the spoke announced is gone with its neighbour")
    other_as = {"blue": (replace(plans.LEARNED["blue"][0], asn=65099), *stranger["blue"])}
    hub.stage(hub.plan, other_as)
    hub.reload()
    wait_for(lambda: vtysh.wrong_as(hub.log_file) == {ip_address("10.255.1.11"): 1}, "its OPEN is refused")
    assert hub.kernel_routes() == set()
    hub.stage(hub.plan)
    hub.reload()
    wait_for(lambda: hub.kernel_routes() == {"10.1.11.0/24"}, "it is known again")
    assert spoke.show("bgp neighbors")["10.255.1.1"]["bgpState"] == "Established"


def _with(known: Learned, prefix: str) -> Learned:
    first, *rest = known["blue"]
    return {"blue": (replace(first, prefixes=(*first.prefixes, ip_network(prefix))), *rest)}


def test_a_hub_takes_nothing_that_a_spoke_may_not_announce(pair: tuple[Speaker, Speaker]) -> None:
    hub, spoke = pair
    commands = ["conf t", "no ip prefix-list blue-to-hubs", "ip prefix-list blue-to-hubs permit 0.0.0.0/0 le 32"]
    commands += ["router bgp 65011", "address-family ipv4 unicast", *(f"network {prefix}" for prefix in HOSTILE)]
    # The last one is permitted: when it is there, the others have been looked at.
    commands += ["network 10.1.11.128/25"]
    run("vtysh", "--vty_socket", str(spoke.run_dir), *(word for command in commands for word in ("-c", command)))
    wait_for(lambda: "10.1.11.128/25" in hub.kernel_routes(), "the hub has the permitted prefix")
    wait_for(lambda: _sent(spoke) == len(HOSTILE) + 2, "the spoke announced them all")
    assert hub.kernel_routes() == {"10.1.11.0/24", "10.1.11.128/25"}
    assert vtysh.denied_prefixes(hub.run_dir)["blue-from-10.255.1.11"] == len(HOSTILE)


def _sent(spoke: Speaker) -> int:
    sent = spoke.show("bgp ipv4 unicast neighbors 10.255.1.1 advertised-routes")["totalPrefixCounter"]
    assert isinstance(sent, int)
    return sent
