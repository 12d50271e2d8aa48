"""A wired router for a test: connections that another test made would be known."""

import os
from collections.abc import Iterator

import pytest
from firewall_questions import ports, site_plan
from firewall_wires import Wires


@pytest.fixture
def wires() -> Iterator[Wires]:
    if os.geteuid() != 0:
        pytest.skip("needs root for namespaces")
    opened = Wires(f"fw{os.getpid()}", ports(site_plan(" {}")))
    try:
        yield opened
    finally:
        opened.close()
