import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from gre_routers import Router, join

Pair = tuple[Router, Router]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """Two routers that know and reach each other; their loops are not started yet."""
    if os.geteuid() != 0 or not Path("/dev/net/tun").exists():
        pytest.skip("needs root and /dev/net/tun")
    routers: list[Router] = []
    try:
        for number in (1, 2):
            routers.append(Router(number, tmp_path))
            routers[-1].set_up()
            routers[-1].write_settings()
        left, right = routers
        join(left, right)
        left.knows(right)
        right.knows(left)
        yield left, right
    finally:
        for router in routers:
            router.close()


@pytest.fixture
def running(pair: Pair) -> Pair:
    """The same with their loops running, and each allowed the other's tunnel address."""
    for router in pair:
        router.start()
    left, right = pair
    left.allow(right)
    right.allow(left)
    return pair
