import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.plane.network import Router, join


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Router, Router]]:
    """Two routers that know, allow and reach each other; their loops are not started yet."""
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
