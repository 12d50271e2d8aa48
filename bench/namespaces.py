"""The stage: two hosts behind two routers, each in a network namespace of its own, and the processes that run in them.

    host-a --- router-a === wan === router-b --- host-b
    10.1.1.2   10.1.1.1   192.0.2.1/2   10.1.2.1   10.1.2.2

Everything is gone when the stage is closed. Should this process be killed, the kernel ends those it started, and the
next stage removes the namespaces that are left.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from dmvpn.errors import Fault
from dmvpn.linux import namespaces
from dmvpn.linux.pace import patience
from dmvpn.linux.supervisor_child import Bind, lay_over

MTU_OCTETS = 1372  # of every inner hop, whatever the path: the userspace plane's MTU with a key (docs of the Plan)
WAN_MTU_OCTETS = 1500
_TICKS = os.sysconf("SC_CLK_TCK")


class Node:
    """One namespace. `processes` are those that carry packets, by the name that the table shows."""

    def __init__(self, stage: str, name: str) -> None:
        self.name = name
        self.namespace = f"bench-{stage}-{name}"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        subprocess.run(("ip", "netns", "add", self.namespace), check=True)
        self.ip("link set lo up")

    def ip(self, line: str) -> str:
        return self.run(("ip", *line.split()))

    def run(
        self, command: tuple[str, ...], *, timeout_s: float = 30.0, environment: dict[str, str] | None = None
    ) -> str:
        """Run to the end. Raises Fault with what it said if it fails."""
        inside = ("ip", "netns", "exec", self.namespace, *command)
        where, limit_s = f"{self.name}: {' '.join(command[:3])}", patience(timeout_s)
        try:
            done = subprocess.run(
                inside,
                capture_output=True,
                text=True,
                timeout=limit_s,
                check=False,
                env={**os.environ, **(environment or {})},
            )
        except subprocess.TimeoutExpired as error:
            raise Fault(where, f"did not end within {limit_s:g} s") from error
        if done.returncode:
            raise Fault(where, (done.stdout + done.stderr).strip()[-400:])
        return done.stdout

    def start(
        self,
        name: str,
        command: tuple[str, ...],
        log: Path,
        environment: dict[str, str] | None = None,
        *,
        binds: tuple[Bind, ...] = (),
    ) -> None:
        """Start a process of this node. It sees `binds` as a unit of a router does; with none an empty /run."""

        def enter() -> None:
            namespaces.die_with_parent(signal.SIGKILL)
            namespaces.join(Path("/run/netns") / self.namespace)
            namespaces.unshare(namespaces.CLONE_NEWNS)
            namespaces.mount("none", Path("/"), flags=namespaces.MS_REC | namespaces.MS_PRIVATE)
            lay_over(binds)
            if not binds:
                namespaces.mount("tmpfs", Path("/run"), "tmpfs", options="mode=0755")

        with log.open("ab") as output:
            self.processes[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **(environment or {})},
                preexec_fn=enter,
            )

    def wait(self, name: str, timeout_s: float) -> None:
        """Return when a process has ended. Raises Fault, and ends it, if it does not in time."""
        process = self.processes.pop(name)
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            process.kill()
            process.wait()
            raise Fault(f"{self.name}: {name}", f"did not end within {timeout_s:g} s") from error

    def cpu_s(self) -> dict[str, float]:
        """Processor seconds that each process has used, children that ended included. proc(5)"""
        used = {}
        for name, process in self.processes.items():
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(") ")[2].split()
            used[f"{self.name} {name}"] = sum(int(ticks) for ticks in fields[11:15]) / _TICKS
        return used

    def close(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        subprocess.run(("ip", "netns", "delete", self.namespace), check=False)


class Stage:
    """The four nodes, wired, with a directory for their files. Use as a context."""

    def __init__(self, label: str = "") -> None:
        """`label` tells two stages of this process apart."""
        self.nodes: list[Node] = []
        self._name = f"{os.getpid()}-{label}" if label else str(os.getpid())
        self._directory = TemporaryDirectory(prefix="dmvpn-bench-")
        self.directory = Path(self._directory.name)

    def __enter__(self) -> Self:
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _build(self) -> None:
        _sweep()
        for name in ("host-a", "router-a", "router-b", "host-b"):
            self.nodes.append(Node(self._name, name))
        self.host_a, self.router_a, self.router_b, self.host_b = self.nodes
        for side, host, router in ((1, self.host_a, self.router_a), (2, self.host_b, self.router_b)):
            wire(host, "eth0", router, "lan", MTU_OCTETS)
            host.ip(f"address add 10.1.{side}.2/24 dev eth0")
            router.ip(f"address add 10.1.{side}.1/24 dev lan")
            host.ip(f"route add default via 10.1.{side}.1")
            router.run(("sysctl", "-qw", "net.ipv4.ip_forward=1"))
        wire(self.router_a, "wan", self.router_b, "wan", WAN_MTU_OCTETS)
        self.router_a.ip("address add 192.0.2.1/24 dev wan")
        self.router_b.ip("address add 192.0.2.2/24 dev wan")

    def devices(self, node: Node) -> tuple[str, ...]:
        return ("eth0",) if node in (self.host_a, self.host_b) else ("lan", "wan")

    def close(self) -> None:
        for node in self.nodes:
            node.close()
        self._directory.cleanup()


def _sweep() -> None:
    """Remove the namespaces of stages whose process is dead."""
    for space in Path("/run/netns").glob("bench-*"):
        owner = space.name.split("-")[1]
        if not Path("/proc", owner).exists():
            subprocess.run(("ip", "netns", "delete", space.name), check=False)


def wire(left: Node, left_device: str, right: Node, right_device: str, mtu_octets: int) -> None:
    """A veth pair between two nodes, up."""
    line = f"ip link add {left_device} netns {left.namespace} mtu {mtu_octets} type veth"
    line += f" peer name {right_device} netns {right.namespace} mtu {mtu_octets}"
    subprocess.run(line.split(), check=True)
    left.ip(f"link set {left_device} up")
    right.ip(f"link set {right_device} up")


def wait_for(condition: Callable[[], bool], what: str, timeout_s: float = 20.0) -> None:
    """Return when `condition` holds. Raises Fault when it does not in time, which is this machine's."""
    limit_s = patience(timeout_s)
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            raise Fault("bench", f"waited {limit_s:g} s for {what}")
        time.sleep(0.05)
