"""Real labs need root and namespaces: without them these tests are skipped by name."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_plans import DEMO, demo

from dmvpn.lab import lifecycle
from dmvpn.lab.running import Lab


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() == 0 and Path("/proc/self/ns/net").exists():
        return
    for item in items:
        if "tests/lab/" in str(item.path) and item.get_closest_marker("kernel"):
            item.add_marker(pytest.mark.skip(reason="a lab needs root and network namespaces"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state directory of this module's labs, instead of /run/dmvpn-lab."""
    return tmp_path_factory.mktemp("labs")


@pytest.fixture(scope="module")
def underlay(base: Path) -> Iterator[Lab]:
    """The demo's machines and WAN without any VPN."""
    network, plans = demo()
    with lifecycle.held(network.lab, plans, name="underlay", file=str(DEMO), base=base) as lab:
        yield lab
