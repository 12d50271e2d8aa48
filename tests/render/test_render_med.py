"""MED between hubs, by bgpd as rendered: which of three paths is the best does not depend on which came first.

The classic case of `bgp deterministic-med`: a network behind two AS, which three other hubs of ours tell of. By MED the
fourth hub's path goes before the second's, which has the same AS; the third's has another one, of which MED says
nothing, and by router-id it is between them. Compared one after the other as they came, each of the three can win.
"""

from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import render_plans as plans
from render_speaker import Speaker, readable
from render_wires import Namespaces, run, wait_for

from dmvpn.linux import vtysh
from dmvpn.network.plan import BgpNeighbor
from dmvpn.render.frr import DAEMONS
from dmvpn.render.frr_choice import HUB_METRIC

pytestmark = [pytest.mark.kernel, pytest.mark.wide, pytest.mark.usefixtures("need_frr")]
ASN = 65000
NETWORK = "10.7.0.0/24"
LAST = "10.7.255.0/24"  # told when all else is: bgpd chooses in the order in which it hears


@dataclass(frozen=True, slots=True)
class Told:
    """What another hub says of the network: the AS behind it, and MED."""

    asn: int
    med: int


# Their addresses are their router-ids, of which the lower one goes before.
SECOND, THIRD, FOURTH = (IPv4Address(f"10.255.1.{number}") for number in (2, 3, 4))
TOLD = {SECOND: Told(65011, 10), THIRD: Told(65012, 10), FOURTH: Told(65011, 5)}
ORDERS = tuple(permutations(TOLD))


class Announcer:
    """Another hub's zebra and bgpd, which say what the test wants."""

    def __init__(self, namespaces: Namespaces, address: IPv4Address, directory: Path) -> None:
        self.address, self.run_dir = address, directory
        self.netns = namespaces.add(f"hq-{int(address) & 0xFF}")
        self._namespaces = namespaces
        directory.mkdir()
        directory.chmod(0o777)
        (directory / "bgpd.conf").write_text(f"""\
route-map told permit 10
 set as-path prepend {TOLD[address].asn}
 set metric {TOLD[address].med}
exit
router bgp {ASN}
 bgp router-id {address}
 no bgp default ipv4-unicast
 no bgp network import-check
 neighbor {plans.HUB_OVERLAY} remote-as {ASN}
 neighbor {plans.HUB_OVERLAY} timers connect 1
 address-family ipv4 unicast
  neighbor {plans.HUB_OVERLAY} activate
  network {NETWORK} route-map told
""")
        (directory / "zebra.conf").touch()

    def start(self, hub: Speaker) -> None:
        port = f"port{int(self.address) & 0xFF}"
        run("ip", "-n", hub.netns, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", self.netns)
        run("ip", "-n", hub.netns, "link", "set", port, "up", "master", "acme-blue")
        run("ip", "-n", self.netns, "addr", "add", f"{self.address}/24", "dev", "eth0")
        run("ip", "-n", self.netns, "link", "set", "eth0", "up")
        for daemon in ("zebra", "bgpd"):
            own = ("-f", str(self.run_dir / f"{daemon}.conf"), "-i", str(self.run_dir / f"{daemon}.pid"))
            sockets = ("-z", str(self.run_dir / "zserv.api"), "--vty_socket", str(self.run_dir), "-P", "0")
            argv = (str(DAEMONS / daemon), "-u", "frr", "-g", "frr", *own, *sockets, "--log", "stdout")
            self._namespaces.start(self.netns, *argv, log=self.run_dir / "log")
            wait_for((self.run_dir / f"{daemon}.vty").exists, f"{daemon} serves")

    def announce(self, network: str, *words: str) -> None:
        self._configure(" ".join(("network", network, *words)))

    def withdraw(self, network: str) -> None:
        self._configure(f"no network {network}")

    def _configure(self, line: str) -> None:
        commands = ("conf t", f"router bgp {ASN}", "address-family ipv4 unicast", line)
        words = (word for one in commands for word in ("-c", one))
        run("vtysh", "--vty_socket", str(self.run_dir), "-d", "bgpd", *words)


@dataclass(frozen=True, slots=True)
class Hubs:
    """The first hub, as rendered, and the others."""

    first: Speaker
    others: dict[IPv4Address, Announcer]

    def paths(self, network: str = NETWORK) -> dict[IPv4Address, dict[str, Any]]:
        """Those that the first hub may choose from, by whom it has them from."""
        found = vtysh.show(self.first.run_dir, f"show bgp ipv4 unicast {network} json", daemon="bgpd").get("paths", [])
        return {IPv4Address(path["peer"]["peerId"]): path for path in found if path.get("valid")}

    def best(self) -> IPv4Address:
        """Of all three."""
        for address in self.others:
            wait_for(lambda address=address: address in self.paths(), f"the path by {address}")  # type: ignore[misc]
        self.others[THIRD].announce(LAST)
        wait_for(lambda: "bestpath" in self.paths(LAST).get(THIRD, {}), "bgpd has chosen")
        self.others[THIRD].withdraw(LAST)
        wait_for(lambda: not self.paths(LAST), "the last is gone")
        (best,) = (address for address, path in self.paths().items() if path.get("bestpath", {}).get("overall"))
        return best

    def best_after(self, order: tuple[IPv4Address, ...]) -> IPv4Address:
        """Of paths that come in this order."""
        for one in self.others.values():
            one.withdraw(NETWORK)
        wait_for(lambda: not self.paths(), "no path is left")
        for address in order:
            self.others[address].announce(NETWORK, "route-map told")
            wait_for(lambda address=address: address in self.paths(), f"the path by {address}")  # type: ignore[misc]
        return self.best()

    def best_after_clearing(self, address: IPv4Address) -> IPv4Address:
        """Its path is the last to come then."""
        before = self._sessions(address)
        run("vtysh", "--vty_socket", str(self.first.run_dir), "-d", "bgpd", "-c", f"clear bgp ipv4 unicast {address}")
        wait_for(lambda: self._sessions(address) > before, f"another session with {address}")
        return self.best()

    def _sessions(self, address: IPv4Address) -> int:
        shown = vtysh.show(self.first.run_dir, f"show bgp neighbors {address} json", daemon="bgpd")
        return int(shown[str(address)]["connectionsEstablished"])

    def next_hop(self) -> str:
        return run("ip", "-n", self.first.netns, "route", "show", NETWORK).split()[2]


@pytest.fixture
def hubs(namespaces: Namespaces, tmp_path: Path) -> Hubs:
    readable(tmp_path)
    plan = plans.hub()
    cloud = plan.clouds[0]
    assert cloud.bgp is not None
    neighbors = tuple(BgpNeighbor(address, ASN, f"hq{int(address) & 0xFF}") for address in TOLD)
    cloud = replace(cloud, bgp=replace(cloud.bgp, neighbors=neighbors))
    hub = Speaker(namespaces, replace(plan, clouds=(cloud,)), tmp_path / "hub")
    run("ip", "-n", hub.netns, "link", "add", "acme-blue", "type", "bridge")
    run("ip", "-n", hub.netns, "addr", "add", f"{plans.HUB_OVERLAY}/24", "dev", "acme-blue")
    hub.start()
    others = {address: Announcer(namespaces, address, tmp_path / str(address)) for address in TOLD}
    for one in others.values():
        one.start(hub)
    hubs = Hubs(hub, others)
    hubs.best()
    return hubs


def test_the_best_path_is_the_same_in_whatever_order_they_came(hubs: Hubs) -> None:
    assert {order: hubs.best_after(order) for order in ORDERS} == dict.fromkeys(ORDERS, THIRD)
    assert {address: hubs.best_after_clearing(address) for address in TOLD} == dict.fromkeys(TOLD, THIRD)
    assert {address: path["metric"] for address, path in hubs.paths().items()} == {
        address: told.med + HUB_METRIC for address, told in TOLD.items()
    }
    wait_for(lambda: hubs.next_hop() == str(THIRD), "the kernel has it too")


def test_med_decides_between_two_of_one_as(hubs: Hubs) -> None:
    """By router-id it would be the second."""
    hubs.others[THIRD].withdraw(NETWORK)
    wait_for(lambda: hubs.next_hop() == str(FOURTH), "the lower MED")


def test_without_the_line_who_came_first_is_the_best(hubs: Hubs) -> None:
    """Else the first test would hold of any bgpd."""
    hubs.first.configure("no bgp deterministic-med")
    orders = ORDERS[::2]  # each of the three is once the first
    assert {order: hubs.best_after(order) for order in orders} == {order: order[0] for order in orders}
    first = hubs.best()
    assert hubs.best_after_clearing(first) != first
