"""`dmvpn run` as a container's main process: PID 1 of a PID namespace, with nobody beside it."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from system_machines import DMVPN, PAPERS, Machine, carry, make_papers, need_machines, until

pytestmark = [pytest.mark.kernel, pytest.mark.lab]

# What an entry point does: here it first waits until the test has put the machine together.
ENTRY = f"until [ -e /run/go ]; do sleep 0.1; done; export NOTIFY_SOCKET=@ready; exec {DMVPN} run"
LISTEN = (
    "import socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind(chr(0) + 'ready'); print(s.recv(99))"
)


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    need_machines()
    directory = tmp_path_factory.mktemp("container")
    papers = directory / "papers"
    papers.mkdir()
    make_papers(papers)
    machine = Machine("hq1", directory, ("bash", "-c", ENTRY))
    yield machine
    machine.power_off()


def start(machine: Machine, papers: Path | None = None) -> None:
    machine.power_on()
    until(lambda: _command(machine).startswith("bash -c until"), "its entry point runs")
    for name in ("eth0", "eth1"):
        machine.run("ip", "link", "add", name, "type", "veth", "peer", "name", f"far-{name}")
        machine.run("ip", "link", "set", name, "up")
        machine.run("ip", "link", "set", f"far-{name}", "up")
    if papers is not None:
        carry(machine, papers)
        machine.dmvpn("pki", "install", PAPERS)
        machine.dmvpn("apply", f"{PAPERS}/network.yaml", "--router", machine.name)
        machine.dmvpn("stop")


def _command(machine: Machine) -> str:
    return Path(f"/proc/{machine.pid}/cmdline").read_text().replace("\0", " ")


def says(machine: Machine) -> str:
    return machine.disk.with_suffix(".log").read_text()


def ended(machine: Machine) -> int:
    """Its exit status, as a container's runtime sees it."""
    assert machine.started is not None
    return machine.started.wait(timeout=60)


def test_where_nothing_was_applied_it_ends_with_one_line(container: Machine) -> None:
    start(container)
    container.run("touch", "/run/go")
    assert ended(container) == 1
    assert "no network is configured on this machine" in says(container)
    container.power_off()


def test_it_says_when_it_is_ready_reaps_and_ends_in_order(container: Machine) -> None:
    start(container, container.disk.parent / "papers")
    listening = container.spawn(sys.executable, "-c", LISTEN)
    until(lambda: "@ready" in container.run("cat", "/proc/net/unix"), "somebody listens")
    container.run("touch", "/run/go")
    assert listening.communicate(timeout=90)[0] == "b'READY=1'\n"
    assert "acme: revision 1 runs\n" in says(container)
    assert "hq1 in acme" in container.dmvpn("status", status=None)
    # Orphans of whoever entered the container.
    container.run("bash", "-c", "for i in 1 2 3; do (sleep 0.2 &); done")
    until(lambda: "defunct" not in container.run("ps", "-e", "-o", "args"), "the orphans are reaped")
    os.kill(container.pid, signal.SIGTERM)
    assert ended(container) == 0
    assert says(container).endswith("acme: stopped\n")
    assert "dmvpn-acme-charon: " in says(container), "the services' logs are its output"
    container.power_off()


def test_it_does_not_outlive_its_services(container: Machine) -> None:
    start(container)
    container.run("touch", "/run/go")
    until(lambda: says(container).count("acme: revision 1 runs\n") == 2, "it runs again")
    container.run("pkill", "-9", "-f", "dmvpn.linux.supervisor")
    assert ended(container) == 1
    assert "its supervisor is gone" in says(container)
