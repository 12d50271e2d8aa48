"""Two routers, a hub and a spoke, on machines with a real systemd each, cabled to each other."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from system_machines import Machine, Pair, footprint, hub_and_spoke


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with hub_and_spoke(tmp_path_factory.mktemp("machines")) as (hub, spoke):
        hub.run("groupadd", "--system", "dmvpn")
        before = footprint(hub)
        with ThreadPoolExecutor() as both:
            list(both.map(Machine.install, (hub, spoke)))
        yield Pair(hub, spoke, before)
