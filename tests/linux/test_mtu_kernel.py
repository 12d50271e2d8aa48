"""What one packet becomes in mGRE and the kernel's ESP: the computed MTU is the largest that stays one packet.

Pings with DF, over the device as dmvpn makes it. The page of the MTU has the same rows.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest
from ipsec_pair import run
from mtu_pair import OVERLAY, TRANSPORT, UNDERLAY, Pair, pair, set_mtu
from mtu_table import ESPS, UNDERLAYS, WAYS, Way

from dmvpn.linux import namespaces
from dmvpn.linux.pace import patience
from dmvpn.linux.path_probe import EchoProber, Outcome, Probe
from dmvpn.network.plan import Plane

pytestmark = [pytest.mark.vm, pytest.mark.wide]

OURS = [way for way in WAYS if way.plane is Plane.KERNEL]
DEVICE = "gre1"
WIDE = 9000
VLAN = 7


def tunnels(found: Pair) -> None:
    """An mGRE device at both ends as interfaces.py describes it; who is where is set for each kind of ESP."""
    for end, do in enumerate((run, found.at_far)):
        do("ip", "link", "add", DEVICE, "type", "gre", "key", "1", "ttl", "64", "tos", "inherit", "pmtudisc")
        do("ip", "addr", "add", f"{OVERLAY[end]}/24", "dev", DEVICE)
        do("ip", "link", "set", DEVICE, "up", "mtu", str(WIDE))


def lead(found: Pair, way: Way) -> None:
    """The neighbour entry names the transport address, or, in transport mode, that of the underlay."""
    addresses = TRANSPORT if way.tunnel_mode else UNDERLAY[4]
    for end, do in enumerate((run, found.at_far)):
        do("ip", "neigh", "replace", OVERLAY[1 - end], "lladdr", addresses[1 - end], "dev", DEVICE, "nud", "permanent")
        # As transport_routes.py has it; without a limit the tunnel's MTU would limit its own outer packets.
        do("ip", "route", "replace", f"{TRANSPORT[1 - end]}/32", "dev", DEVICE, "src", TRANSPORT[end], "mtu", "65520")


@contextmanager
def namespace() -> Iterator[None]:
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    namespaces.unshare(namespaces.CLONE_NEWNET)
    try:
        yield
    finally:
        namespaces.join(Path(f"/proc/self/fd/{home}"))
        os.close(home)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], Pair]]:
    """The pair of an outer family; the one before ends when another is asked for."""
    running, family_now, found = ExitStack(), 0, None

    def of(family: int) -> Pair:
        nonlocal family_now, found
        if family != family_now:
            running.close()
            running.enter_context(namespace())
            found = running.enter_context(pair(tmp_path_factory.mktemp("mtu"), Plane.KERNEL, family))
            tunnels(found)
            family_now = family
        assert found is not None
        return found

    with running:
        yield of


def check(found: Pair, way: Way, esp: str, underlay: int) -> None:
    mtu = way.mtu_octets(esp, underlay)
    found.set_underlay_mtu(underlay)
    prober = EchoProber(ip_address(OVERLAY[1]), source=ip_address(OVERLAY[0]))

    def ping(octets: int, device_mtu: int) -> Outcome:
        set_mtu(DEVICE, device_mtu)
        return prober.send([Probe(octets)], timeout_s=patience(2.0))[Probe(octets)].outcome

    with found.wire() as wire:
        assert ping(mtu, mtu) is Outcome.REACHED, f"{way}, {esp}, {underlay}: {mtu} octets do not pass"
        (packet,) = wire.take(1)
        assert packet.whole
        assert packet.octets == way.underlay_octets(esp, mtu) <= underlay, f"{way}, {esp}"
        assert ping(mtu + 1, mtu) is Outcome.TOO_BIG
        # Were the device wider, the kernel would find that ESP has no room.
        assert ping(mtu + 1, WIDE) is Outcome.TOO_BIG
        assert wire.take(1, 0.05) == []


@pytest.mark.parametrize("way", OURS, ids=str)
def test_the_mtu_is_the_largest_that_stays_one_packet(pairs: Callable[[int], Pair], way: Way) -> None:
    """For every cipher, one child after the other in one IKE_SA."""
    found = pairs(way.family)
    lead(found, way)
    for esp in ESPS:
        found.set_underlay_mtu(1500)
        found.child(esp, mode="tunnel" if way.tunnel_mode else "transport", encap=way.udp)
        for underlay in UNDERLAYS:
            check(found, way, esp, underlay)


def test_a_vlan_leaves_the_mtu_as_it_is(tmp_path: Path) -> None:
    """Its tag is outside what Ethernet counts."""
    way = Way(Plane.KERNEL)
    with namespace(), pair(tmp_path, way.plane, vlan=VLAN) as found:
        tunnels(found)
        lead(found, way)
        found.child(ESPS[0], encap=True)
        check(found, way, ESPS[0], 1500)
