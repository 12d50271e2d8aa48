"""What one packet becomes in charon's userspace ESP: the computed MTU is the largest that stays one packet.

So is a full segment of a LAN host's, which the rendered rules give its size.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from mss_checks import Lan, check_mss, check_too_large, lan
from mtu_checks import check_userspace, namespace
from mtu_pair import Pair, pair
from mtu_table import ESPS, IN_A_PROCESSOR, UNDERLAYS, WAYS, Way

from dmvpn.linux import kernel_facts
from dmvpn.network.plan import Plane

pytestmark = pytest.mark.kernel

Charons = tuple[Way, Pair, Lan]
OURS = [way for way in WAYS if way.plane is Plane.USERSPACE]


@pytest.fixture(scope="module", params=OURS, ids=str)
def charons(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Way, Pair, Lan]]:
    if os.geteuid() != 0 or not Path("/dev/net/tun").exists():
        pytest.skip("network namespaces need root, and charon's ESP /dev/net/tun")
    way: Way = request.param
    directory = tmp_path_factory.mktemp("mtu")
    with namespace(), pair(directory, way.plane, way.family) as found, lan(found, way, directory) as hosts:
        yield way, found, hosts


@pytest.mark.parametrize("esp", ESPS)
def test_the_mtu_is_the_largest_that_stays_one_packet(charons: Charons, esp: str) -> None:
    if esp in IN_A_PROCESSOR and not kernel_facts.has_aes():
        pytest.skip("charon has this integrity in AES instructions only")
    way, found, hosts = charons
    found.set_underlay_mtu(1500)
    found.child(esp)
    for underlay in UNDERLAYS:
        check_userspace(found, way, esp, underlay)
        check_mss(hosts, way, esp, underlay)


def test_a_clamp_that_is_larger_or_gone_would_be_seen(charons: Charons) -> None:
    way, found, hosts = charons
    found.set_underlay_mtu(1500)
    found.child(ESPS[0])
    check_too_large(hosts, way, ESPS[0], 1500)
