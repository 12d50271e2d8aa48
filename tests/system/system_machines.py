"""A machine whose init is Debian's own systemd: PID 1 of a PID namespace, on an overlay of this machine's root."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

import two_routers

ROOT = Path(__file__).parents[2]
BOOT = Path(__file__).with_name("boot.sh")
SYSTEMD = Path("/lib/systemd/systemd")
SPACES = ("--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup")
WAIT_S = 240.0
DMVPN = str(ROOT / ".venv" / "bin" / "dmvpn")

# One cable is all that is between them.
ELSEWHERE, UPLINK = "[198.51.100.2/30], gateway: [198.51.100.1]", "[192.0.2.1/30], gateway: [192.0.2.2]"
NETWORK = two_routers.NETWORK.replace(ELSEWHERE, UPLINK).replace("plane: userspace", "bfd: true, plane: userspace")


def need_machines() -> None:
    """Skips by name where there can be none."""
    if os.geteuid() != 0:
        pytest.skip("needs root: namespaces and mounts")
    if not SYSTEMD.exists():
        pytest.skip("needs the Debian package systemd (its programs, not as PID 1)")
    if cgroups() is None:
        pytest.skip("needs a mounted cgroup v2")


def cgroups() -> Path | None:
    """Where cgroup v2 is mounted, alone or beside v1."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return next((Path(fields[1]) for fields in mounts if fields[2] == "cgroup2"), None)


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline, f"waited too long: {what}"
        time.sleep(0.1)


PAPERS = "/srv/net"
INIT = (str(SYSTEMD), "--system", "--show-status=0", "--log-target=journal")


class Machine:
    """One machine. `disk` survives its power going off; `kept` is a directory it shares with the test."""

    def __init__(self, name: str, directory: Path, init: tuple[str, ...], unpacked: str = "") -> None:
        self.name = name
        self.disk = directory / f"{name}.disk"
        self.layers = directory / f"{name}.layers"
        self.kept = directory / "kept"
        self.pid = 0
        self._init = init
        self._unpacked = unpacked
        self.started: subprocess.Popen[bytes] | None = None
        self._group: Path | None = None

    def power_on(self) -> None:
        for path in (self.disk, self.layers, self.kept):
            path.mkdir(exist_ok=True)
        mounted = cgroups()
        assert mounted is not None
        self._group = mounted / f"dmvpn-test-{os.getpid()}-{self.name}"
        self._group.mkdir(exist_ok=True)
        group, log = self._group, self.disk.with_suffix(".log").open("ab")

        def enter() -> None:
            (group / "cgroup.procs").write_text(str(os.getpid()))

        argv = ("unshare", *SPACES, "--fork", "--kill-child", "bash", str(BOOT), str(self.layers), str(ROOT))
        self.started = subprocess.Popen(
            (*argv, str(self.disk), *self._init),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "DMVPN_UNPACKED": self._unpacked},
            preexec_fn=enter,
        )
        log.close()
        children = Path(f"/proc/{self.started.pid}/task/{self.started.pid}/children")
        until(lambda: children.exists() and bool(children.read_text().split()), f"{self.name} boots")
        self.pid = int(children.read_text().split()[0])

    def power_off(self) -> None:
        """At once, as when the plug is pulled."""
        if self.started is None:
            return
        if self.started.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.started.wait()
        self.started = None
        if self._group is not None:
            until(self._is_empty, f"{self.name} is off")
            for directory in sorted(self._group.rglob("*"), reverse=True):
                if directory.is_dir():
                    directory.rmdir()
            self._group.rmdir()

    def shut_down(self) -> None:
        """In order, by its own init."""
        assert self.started is not None
        self.run("systemctl", "poweroff", status=None)
        self.started.wait(timeout=WAIT_S)
        self.power_off()

    def _is_empty(self) -> bool:
        assert self._group is not None
        return "populated 0" in (self._group / "cgroup.events").read_text()

    def run(self, *argv: str, status: int | None = 0, input: str = "") -> str:
        """A program inside, as root; its output. `status` None: whatever it ends with."""
        done = subprocess.run(
            self._inside(argv),
            capture_output=True,
            text=True,
            input=input,
            timeout=200,
            check=False,
        )
        if status is not None:
            assert done.returncode == status, f"{argv}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def is_up(self) -> bool:
        """Of one whose init is systemd."""
        return self.run("systemctl", "is-system-running", status=None).strip() in ("running", "degraded")

    def install(self) -> None:
        """What was carried to it, as its operator does."""
        self.dmvpn("pki", "install", PAPERS)
        self.dmvpn("apply", f"{PAPERS}/network.yaml", "--router", self.name)

    def spawn(self, *argv: str) -> subprocess.Popen[str]:
        return subprocess.Popen(self._inside(argv), stdout=subprocess.PIPE, text=True)

    def _inside(self, argv: tuple[str, ...]) -> tuple[str, ...]:
        enter = ("nsenter", "-t", str(self.pid), "-m", "-p", "-n", "-u", "-i", "-C")
        return (*enter, "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", *argv)

    def dmvpn(self, *words: str, status: int | None = 0) -> str:
        return self.run(DMVPN, *words, status=status)

    def cable(self, other: "Machine") -> None:
        """eth0 to eth0, and an eth1 for the LAN."""
        for machine in (self, other):
            if "eth1" not in machine.run("ip", "-o", "link"):
                machine.run("ip", "link", "add", "eth1", "type", "veth", "peer", "name", "host1")
        _link(self.pid, other.pid)
        for machine in (self, other):
            for device in ("eth0", "eth1", "host1"):
                machine.run("ip", "link", "set", device, "up")


def _link(one: int, other: int) -> None:
    ends = ("eth0", "netns", str(one), "type", "veth", "peer", "name", "eth0", "netns", str(other))
    subprocess.run(("ip", "link", "add", *ends), check=True)


# What a machine is made of, as far as we may touch it: files with their modes and octets, units, links, rules, tables,
# policies and settings. Packets' counters and the kernel's own link-local addresses are no part of it.
_FOOTPRINT = """
cd /
find etc var/lib/dmvpn run/dmvpn usr/local ! -type d -printf '%p %m %l\\n' 2>/dev/null | sort
find etc usr/local -type f -exec sha256sum {} + | sort
find etc/dmvpn var/lib/dmvpn run/dmvpn -type d 2>/dev/null
ip -br link | sed 's/[@ ].*//'
ip -o address show scope global; ip rule; ip -6 rule
ip route show table all proto static; ip route show table all | grep -v 'proto kernel'
nft list ruleset; ip xfrm policy; ip xfrm state
find proc/sys/net/ipv4 proc/sys/net/ipv6 -type f -readable ! -path '*/neigh/*' ! -name '*_mem' ! -name flush \
    ! -name stable_secret -exec grep -H . {} + 2>/dev/null | sort
"""


def footprint(machine: Machine) -> list[str]:
    return machine.run("bash", "-c", _FOOTPRINT, status=None).splitlines()


@dataclass
class Pair:
    """A hub and a spoke; `before` is the hub's footprint before anything of ours was there."""

    hub: Machine
    spoke: Machine
    before: list[str]

    @property
    def both(self) -> tuple[Machine, Machine]:
        return self.hub, self.spoke


def make_papers(directory: Path, network: str = NETWORK) -> None:
    directory.mkdir(exist_ok=True)
    (directory / "network.yaml").write_text(network)
    # Papers of an invitation's length: dmvpnd changes them for its own at once.
    for words in (("init", "--no-passphrase", "--renewal", "hq1"), ("issue", "--days", "7")):
        subprocess.run((DMVPN, "pki", *words), cwd=directory, check=True, capture_output=True)


def carry(machine: Machine, papers: Path) -> None:
    """What an operator copies to a router: the file and its papers."""
    files = [papers / "network.yaml", *(papers / "pki" / "routers" / machine.name).iterdir()]
    machine.run("mkdir", "-p", PAPERS)
    for file in files:
        machine.run("bash", "-c", f"umask 077; cat >{PAPERS}/{file.name}", input=file.read_text())


@contextmanager
def hub_and_spoke(directory: Path, network: str = NETWORK) -> Iterator[tuple[Machine, Machine]]:
    """Two machines with systemd that are up, cabled to each other, and have their papers; skips without."""
    need_machines()
    papers = directory / "papers"
    make_papers(papers, network)
    hub, spoke = Machine("hq1", directory, INIT), Machine("par1", directory, INIT)
    try:
        for machine in (hub, spoke):
            machine.power_on()
        for machine in (hub, spoke):
            until(machine.is_up, f"{machine.name} is up")
        hub.cable(spoke)
        for machine in (hub, spoke):
            carry(machine, papers)
        yield hub, spoke
    finally:
        hub.power_off()
        spoke.power_off()
