"""Real packets through two loops, over a wire that stands for charon's tunnel."""

import pytest

from tests.plane.network import Router

pytestmark = pytest.mark.kernel


@pytest.fixture
def running(pair: tuple[Router, Router]) -> tuple[Router, Router]:
    for router in pair:
        router.start()
    left, right = pair
    left.allow(right)
    right.allow(left)
    return pair


def test_a_ping_goes_there_and_back_and_is_counted(running: tuple[Router, Router]) -> None:
    left, right = running
    assert left.pings(right.overlay)
    peer = left.state()["tunnels"]["acme-blue"]["peers"][right.transport]
    assert (peer["tx_packets"], peer["rx_packets"]) == (1, 1)
    assert (peer["tx_octets"], peer["rx_octets"]) == (84, 84)
    assert peer["rx_age_s"] < 5
