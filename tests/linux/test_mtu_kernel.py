"""What one packet becomes in mGRE and the kernel's ESP: the computed MTU is the largest that stays one packet.

The page of the MTU has the same rows; a PPPoE session is test_vm_pppoe's.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from mtu_checks import check, check_kernel, child, lead, namespace, proposals, ready, tunnels
from mtu_pair import Pair, pair
from mtu_table import ESPS, UNDERLAYS, WAYS, Way

from dmvpn.network.plan import Plane

pytestmark = [pytest.mark.vm, pytest.mark.wide]

OURS = [way for way in WAYS if way.plane is Plane.KERNEL]
VLAN = 7


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


@pytest.mark.parametrize("way", OURS, ids=str)
def test_the_mtu_is_the_largest_that_stays_one_packet(pairs: Callable[[int], Pair], way: Way) -> None:
    """For every cipher, one child after the other in one IKE_SA."""
    found = pairs(way.family)
    lead(found, way)
    for esp in ESPS:
        found.set_underlay_mtu(1500)
        found.child(esp, mode="tunnel" if way.tunnel_mode else "transport", encap=way.udp)
        for underlay in UNDERLAYS:
            check_kernel(found, way, esp, underlay)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_vlan_leaves_the_mtu_as_it_is(tmp_path: Path, way: Way) -> None:
    """Its tag is outside what Ethernet counts: for every cipher, on both planes."""
    with namespace(), pair(tmp_path, way.plane, way.family, vlan=VLAN) as found:
        ready(found, way)
        for esp in proposals(way):
            child(found, way, esp)
            check(found, way, esp, 1500)
