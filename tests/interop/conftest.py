"""Labs with routers that we did not write. They need GRE and ESP in the kernel, so they run in the virtual machine.

Emulated they take a quarter of an hour, so `make test` leaves them to `make interop`.
"""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.vm)
            item.add_marker(pytest.mark.wide)
            item.add_marker(pytest.mark.timeout(900))
