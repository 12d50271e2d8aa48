"""A lab as these tests see it: the command as an operator types it, conditions that are waited for, flows and logs."""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar

from dmvpn.daemon.control import NodeStatus, PeerRow
from dmvpn.doctor.report import Finding, Outcome
from dmvpn.errors import Fault
from dmvpn.lab import capture, stream, vm
from dmvpn.lab.node import LabNode
from dmvpn.lab.running import Lab
from dmvpn.lab.stream import Packet, Stream
from dmvpn.linux import vtysh
from dmvpn.linux.netlink import Requests
from dmvpn.linux.pace import patience
from dmvpn.linux.process import Result
from dmvpn.linux.route_lookup import lookup
from dmvpn.linux.routes import RouteKind
from dmvpn.linux.services import ServiceStatus, Supervised
from dmvpn.operations import doctor, labs, observing
from dmvpn.operations.here import Here
from dmvpn.render.layout import Layout

HERE = Path(__file__).parent
NETWORKS = {
    "six": HERE / "networks" / "six.yaml",
    "doctor": HERE / "networks" / "doctor.yaml",
    "demo": HERE.parents[1] / "examples" / "demo.yaml",
    "trio": HERE / "networks" / "trio.yaml",
    "hubs": HERE / "networks" / "two-hubs.yaml",
    "three-hubs": HERE / "networks" / "three-hubs.yaml",
    "join": HERE / "networks" / "join.yaml",
    "beside-trio": HERE / "networks" / "beside-trio.yaml",
    "clouds": HERE / "networks" / "two-clouds.yaml",
    "identity": HERE / "networks" / "identity.yaml",
    "walls": HERE / "networks" / "walls.yaml",
    "leased": HERE / "networks" / "leased.yaml",
    "nat": HERE / "networks" / "nat.yaml",
    "uplinks6": HERE / "networks" / "uplinks6.yaml",
    "uplinks": HERE / "networks" / "uplinks.yaml",
    "taken": HERE / "networks" / "taken.yaml",
    "gateways": HERE / "networks" / "gateways.yaml",
    "pppoe": HERE / "networks" / "pppoe.yaml",
    "rip6": HERE / "networks" / "rip6.yaml",
    "nat-kernel": HERE / "networks" / "nat-kernel.yaml",
    "nat-kernel-alike": HERE / "networks" / "nat-kernel-alike.yaml",
}
PLANE_AT = {"native": "userspace", "vm": "kernel"}
PLANE = PLANE_AT["vm" if vm.VARIABLE in os.environ else "native"]
UP_LIMIT_S = 30.0
LOOK_S = 0.05
DIRECT_PACKETS = 5  # in a row, and the way counts as settled
Found = TypeVar("Found")
Figure = Callable[[str, float], None]  # what was measured, and the seconds it took


def on_this_kernel(text: str) -> str:
    """A network file that forces the userspace plane, as it is for the virtual machine: there the kernel's is meant."""
    assert "plane: userspace" in text
    return text.replace("plane: userspace", "plane: kernel") if vm.VARIABLE in os.environ else text


def until(what: str, condition: Callable[[], Found | None], *, within_s: float) -> Found:
    """The first true answer of `condition`; fails the test, with the last answer, when there is none in time."""
    deadline = time.monotonic() + patience(within_s)
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {within_s:g} s (last: {found!r})")
        time.sleep(LOOK_S)
    return found


def until_nothing(what: str, left: Callable[[], Sequence[object]], *, within_s: float) -> None:
    """Waits until nothing is left; fails the test with what is."""
    deadline = time.monotonic() + patience(within_s)
    while still := left():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: within {within_s:g} s still {still}")
        time.sleep(LOOK_S)


@dataclass(slots=True)
class Flow:
    """A numbered stream between two hosts."""

    stream: Stream

    def until(self, way: str, *, within_s: float) -> float:
        """Seconds until the first of some packets in a row that go this way, "direct" or "relayed"."""
        began = time.monotonic()
        self.stream.refresh()
        first = len(self.stream.packets)

        def settled() -> Packet | None:
            self.stream.check()
            self.stream.refresh()
            last = [packet for packet in self.stream.packets[first:] if packet.replied is not None][-DIRECT_PACKETS:]
            alike = len(last) == DIRECT_PACKETS and all(getattr(packet, way) for packet in last)
            return last[0] if alike else None

        packet = until(f"a flow that goes {way}", settled, within_s=within_s)
        assert packet.replied is not None
        return max(0.0, packet.replied - began)

    def mark(self) -> None:
        self.stream.mark()

    def lost(self) -> list[int]:
        """Numbers lost since the mark; waits until the last packet sent so far has had its time."""
        self.stream.refresh()
        last = len(self.stream.packets) - 1
        deadline = time.monotonic() + stream.LATEST_REPLY_S

        def missing() -> list[int]:
            return [packet.sequence for packet in self.stream.stretch(last) if packet.replied is None]

        while missing() and time.monotonic() < deadline:
            time.sleep(LOOK_S)
        return missing()

    def gap_s(self) -> float:
        """Since the mark: from the first packet that was lost to the first that was answered behind the last one."""
        lost = self.lost()
        packets = {packet.sequence: packet for packet in self.stream.stretch()}
        if not lost:
            return 0.0
        after = next(one for one in sorted(packets) if one > lost[-1] and packets[one].replied is not None)
        replied = packets[after].replied
        assert replied is not None
        return replied - packets[lost[0]].sent


@dataclass(slots=True)
class Vpn:
    """A lab that is up."""

    lab: Lab
    layout: Layout = field(init=False)

    def __post_init__(self) -> None:
        self.layout = Layout(self.lab.network)

    # ------------------------------------------------------------ asking

    def node(self, name: str) -> LabNode:
        return self.lab.node(name)

    def routers(self) -> tuple[str, ...]:
        return tuple(node.name for node in self.lab.routers())

    def dmvpn(self, router: str, *words: str, timeout_s: float = 40.0) -> Result:
        """The command as typed on a router, however it ends."""
        return self.run(router, "dmvpn", *words, timeout_s=timeout_s)

    def run(self, node: str, *argv: str, timeout_s: float = 40.0) -> Result:
        return self.node(node).run(labs.inside(argv), timeout_s=timeout_s, accept=range(-64, 256))

    def json(self, router: str, *words: str) -> Any:
        return json.loads(self.dmvpn(router, *words, "--json").stdout)

    def status(self, router: str) -> NodeStatus:
        return self.node(router).call(partial(observing.status, Here(self.lab.network, self.layout)))

    def peer(self, router: str, name: str) -> PeerRow | None:
        return next((row for row in self.status(router).peers if row.name == name), None)

    def moments(self, router: str) -> list[dict[str, Any]]:
        return self.node(router).call(partial(observing.moments, Here(self.lab.network, self.layout)))

    def drops(self, router: str) -> dict[str, int]:
        return dict(self.status(router).clouds[0].drops)

    # ------------------------------------------------------------ conditions

    def settle(self, untold: Sequence[str] = ()) -> None:
        """Every hub up and every BGP session established, seen from every router, which are not told of some hosts."""
        for router in self.routers():
            until_nothing(f"{router} to settle", partial(self.unsettled, router, untold), within_s=UP_LIMIT_S)

    def unsettled(self, router: str, untold: Sequence[str] = ()) -> list[str]:
        try:
            status = self.status(router)
        except Fault as fault:
            return [str(fault)]
        left = [f"hub {hub.router} {hub.state} ({hub.why})" for hub in status.hubs if hub.state != "up"]
        left += [f"BGP {one}" for one in status.bgp if one["state"] != "Established" or not one["prefixes"]]
        left += [] if status.bgp else ["no BGP session"]
        # What BGP knows, the kernel may not have yet.
        hosts = tuple(address for address in self.lab.hosts.values() if address not in untold)
        missing = self.node(router).call(partial(_without_route, hosts))
        return left + [f"no route to {address}" for address in missing]

    def forget(self) -> None:
        """No router has a shortcut any more, and the hubs will say anew where there is one."""
        for router in self.routers():
            hub = self.status(router).clouds[0].role == "hub"
            assert self.dmvpn(router, "nhrp", "purge", *(("10.1.0.0/16",) if hub else ())).status == 0
        until_nothing("no shortcut anywhere", self.shortcuts, within_s=10)

    def shortcuts(self) -> list[tuple[str, str]]:
        return [
            (router, row.name)
            for router in self.routers()
            for row in self.status(router).peers
            if row.kind == "shortcut"
        ]

    def examined(self, router: str, destination: str | None = None) -> tuple[Finding, ...]:
        """As `dmvpn doctor` does it, without the start of a command."""
        here = Here(self.lab.network, self.layout)
        return self.node(router).call(partial(_findings, here, destination), timeout_s=90)

    def ill(self, router: str) -> list[str]:
        """What a doctor does not find good."""
        return [str(one) for one in self.examined(router) if one.outcome is not Outcome.OK]

    # ------------------------------------------------------------ traffic

    @contextmanager
    def flow(self, source: str, target: str, *, interval_s: float = 0.02, octets: int = 64) -> Iterator[Flow]:
        nodes = self.node(source), self.node(target)
        running = stream.start(*nodes, self.lab.hosts[target], interval_s=interval_s, octets=octets)
        try:
            yield Flow(running)
        finally:
            running.stop()

    def start_capture(self, node: str) -> capture.Capture:
        return capture.start(self.node(node), "any", capture.in_memory(), arriving="in")

    # ------------------------------------------------------------ services

    def services(self, router: str) -> dict[str, ServiceStatus]:
        """By the names they have without the network's."""
        rows = self.node(router).call(Supervised(self.lab.network, Path(self.layout.run)).status)
        return {row.name.removeprefix(f"dmvpn-{self.lab.network}-"): row for row in rows}

    def kill(self, router: str, unit: str) -> int:
        """kill -9 of a service's process; the process id it had."""
        pid = self.services(router)[unit].pid
        assert pid is not None
        self.run(router, "kill", "-9", str(pid))
        return pid

    def returned(self, router: str, unit: str, old_pid: int) -> None:
        """Waits until the service runs as another process."""

        def runs_anew() -> bool:
            row = self.services(router)[unit]
            return row.pid not in (None, old_pid) and row.state.value == "ready"

        until(f"{unit} of {router} started again", runs_anew, within_s=20)

    def stop_service(self, router: str, unit: str) -> None:
        services = Supervised(self.lab.network, Path(self.layout.run))
        self.node(router).call(partial(services.stop, f"dmvpn-{self.lab.network}-{unit}"))

    def start_service(self, router: str, unit: str) -> None:
        services = Supervised(self.lab.network, Path(self.layout.run))
        self.node(router).call(partial(services.start, f"dmvpn-{self.lab.network}-{unit}"))

    def reload_service(self, router: str, unit: str) -> None:
        services = Supervised(self.lab.network, Path(self.layout.run))
        self.node(router).call(partial(services.reload, f"dmvpn-{self.lab.network}-{unit}"))

    # ------------------------------------------------------------ bgpd

    def vtysh(self, router: str, command: str) -> Any:
        """What a show command of bgpd's says in JSON."""
        return self.node(router).call(partial(vtysh.show, Path(self.layout.frr_run), command, daemon="bgpd"))

    def configure(self, router: str, commands: Sequence[str], daemon: str = "bgpd") -> None:
        """By hand, past every file."""
        words = (word for command in commands for word in ("-c", command))
        run = self.run(router, "vtysh", "--vty_socket", str(self.layout.frr_run), "-d", daemon, *words)
        assert run.status == 0, run

    # ------------------------------------------------------------ files

    def read(self, router: str, path: str) -> str:
        return self.node(router).call(Path(path).read_text)

    def write(self, router: str, path: str, text: str) -> None:
        self.node(router).call(partial(Path(path).write_text, text))

    def logs(self, router: str) -> dict[str, str]:
        return self.node(router).call(partial(_texts, Path(self.layout.run) / "log"))

    def answers(self, node: str, address: str) -> bool:
        return self.run(node, "ping", "-c", "1", "-W", "1", address).status == 0

    def connects(self, node: str, address: str, port: int) -> str:
        """What a TCP connection there ends with: nothing, or the error's name."""
        return self.run(node, "python3", "-c", _CONNECT, address, str(port)).text.strip()

    def assert_no_traceback(self) -> None:
        for router in self.routers():
            for name, text in self.logs(router).items():
                at = text.find("Traceback")
                assert at < 0, f"{router}: {name}: {text[at : at + 3000]}"


@contextmanager
def settled_lab(file: Path, name: str, untold: Sequence[str] = ()) -> Iterator[Vpn]:
    """A lab whose routers have each other. What runs in it may not have left a traceback in the end."""
    with labs.held(file, f"vpn-{name}-{os.getpid()}", lambda _progress: None) as lab:
        vpn = Vpn(lab)
        vpn.settle(untold)
        yield vpn
        vpn.assert_no_traceback()


_CONNECT = """\
import socket, sys, errno
s = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET)
s.settimeout(1)
try: s.connect((sys.argv[1], int(sys.argv[2])))
except TimeoutError: print('silence')
except OSError as error: print(errno.errorcode[error.errno])
"""


def _without_route(addresses: Sequence[str]) -> list[str]:
    with Requests() as requests:
        rows = {address: lookup(requests, ip_address(address)) for address in addresses}
    return [address for address, row in rows.items() if row is None or row.kind is RouteKind.UNREACHABLE]


def _findings(here: Here, destination: str | None) -> tuple[Finding, ...]:
    return tuple(doctor.findings(here, destination, lambda _what: None))


def _texts(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text(errors="replace") for path in directory.iterdir()}
