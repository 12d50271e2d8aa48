"""Whole networks of real daemons, one lab for each module: without root and namespaces these are skipped by name."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from nat_talk import Talk
from vpn_lab import NETWORKS, Figure, Vpn

from dmvpn.operations import labs


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() == 0 and Path("/dev/net/tun").exists() and Path("/proc/self/ns/net").exists():
        return
    for item in items:
        if "tests/vpn/" in str(item.path):
            item.add_marker(pytest.mark.skip(reason="real routers need root, network namespaces and /dev/net/tun"))


@pytest.fixture(scope="module")
def vpn(request: pytest.FixtureRequest) -> Iterator[Vpn]:
    """The network that the module names in NETWORK, with every hub reached and every BGP session up."""
    name = request.module.NETWORK
    with labs.held(NETWORKS[name], f"vpn-{name}-{os.getpid()}", lambda _progress: None) as lab:
        vpn = Vpn(lab)
        vpn.settle()
        yield vpn
        vpn.assert_no_traceback()


@pytest.fixture(scope="module")
def talk(request: pytest.FixtureRequest, vpn: Vpn) -> Talk:
    """The hosts of the module's ROUTERS, each pair of which is direct or given up."""
    talking = Talk(vpn, request.module.ROUTERS)
    talking.settle()
    return talking


_FIGURES: list[str] = []


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Figure:
    """Times that a reader wants to see; they are shown when all is over, wherever the test ran."""
    return lambda what, seconds: record_property("figure", f"{what} {seconds:.2f} s")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call":
        where = " (virtual machine)" if "[vm" in report.nodeid else ""
        _FIGURES.extend(f"{value}{where}" for name, value in report.user_properties if name == "figure")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _FIGURES:
        terminalreporter.section("figures")
        for line in _FIGURES:
            terminalreporter.line(line)
