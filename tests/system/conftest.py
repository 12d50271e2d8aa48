"""Two routers, a hub and a spoke, on machines with a real systemd each, cabled to each other."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from system_machines import INIT, PAPERS, Machine, Pair, carry, footprint, make_papers, need_machines, until


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    need_machines()
    directory = tmp_path_factory.mktemp("machines")
    papers = directory / "papers"
    papers.mkdir()
    make_papers(papers)
    hub, spoke = Machine("hq1", directory, INIT), Machine("par1", directory, INIT)
    try:
        for machine in (hub, spoke):
            machine.power_on()
        for machine in (hub, spoke):
            until(lambda m=machine: _is_up(m), f"{machine.name} is up")  # type: ignore[misc]
        hub.cable(spoke)
        for machine in (hub, spoke):
            carry(machine, papers)
        hub.run("groupadd", "--system", "dmvpn")
        before = footprint(hub)
        with ThreadPoolExecutor() as both:
            list(both.map(_apply, (hub, spoke)))
        yield Pair(hub, spoke, before)
    finally:
        hub.power_off()
        spoke.power_off()


def _apply(machine: Machine) -> None:
    machine.dmvpn("pki", "install", PAPERS)
    machine.dmvpn("apply", f"{PAPERS}/network.yaml", "--router", machine.name)


def _is_up(machine: Machine) -> bool:
    return machine.run("systemctl", "is-system-running", status=None).strip() in ("running", "degraded")
