"""What one packet becomes in mGRE and the kernel's ESP: the computed MTU is the largest that stays one packet.

So is a full segment of a LAN host's, which the rendered rules give its size.
The page of the MTU has the same rows; a PPPoE session is test_vm_pppoe's.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from mss_checks import Lan, check_mss, check_too_large, lan
from mtu_checks import check, check_kernel, child, lead, namespace, proposals, ready, tunnels
from mtu_pair import pair
from mtu_table import ESPS, UNDERLAYS, WAYS, Way

from dmvpn.network.plan import Plane

pytestmark = [pytest.mark.vm, pytest.mark.wide]

OURS = [way for way in WAYS if way.plane is Plane.KERNEL]
VLAN = 7


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Way], Lan]]:
    """The pair of an outer family, and its LAN; the one before ends when another is asked for."""
    running, family_now, hosts = ExitStack(), 0, None

    def of(way: Way) -> Lan:
        nonlocal family_now, hosts
        if way.family != family_now:
            running.close()
            running.enter_context(namespace())
            directory = tmp_path_factory.mktemp("mtu")
            found = running.enter_context(pair(directory, Plane.KERNEL, way.family))
            tunnels(found)
            hosts = running.enter_context(lan(found, way, directory))
            family_now = way.family
        assert hosts is not None
        lead(hosts.found, way)
        return hosts

    with running:
        yield of


@pytest.mark.parametrize("way", OURS, ids=str)
def test_the_mtu_is_the_largest_that_stays_one_packet(pairs: Callable[[Way], Lan], way: Way) -> None:
    """For every cipher, one child after the other in one IKE_SA."""
    hosts = pairs(way)
    for esp in ESPS:
        hosts.found.set_underlay_mtu(1500)
        child(hosts.found, way, esp)
        for underlay in UNDERLAYS:
            check_kernel(hosts.found, way, esp, underlay)
            check_mss(hosts, way, esp, underlay)
    hosts.found.set_underlay_mtu(1500)
    check_too_large(hosts, way, ESPS[-1], 1500)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_vlan_leaves_the_mtu_as_it_is(tmp_path: Path, way: Way) -> None:
    """Its tag is outside what Ethernet counts: for every cipher, on both planes."""
    with namespace(), pair(tmp_path, way.plane, way.family, vlan=VLAN) as found:
        ready(found, way)
        with lan(found, way, tmp_path) as hosts:
            for esp in proposals(way):
                child(found, way, esp)
                check(found, way, esp, 1500)
                check_mss(hosts, way, esp, 1500)
