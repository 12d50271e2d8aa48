"""NHRP hubs side by side in one run: dmvpnd and FRR's nhrpd, each on a real mGRE device without IPsec.

That needs GRE in the kernel; dmvpnd alone is measured on a TAP too, which every kernel has. Processor time is that of
the hub's processes (proc(5), schedstat), in the kernel on their behalf included; memory is VmRSS before the first
registration and after the last.
"""

import fcntl
import json
import os
import shutil
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Final, Protocol, Self

from bench import spokes
from bench.namespaces import Node, wait_for, wire
from bench.secure import Below, write_files
from bench.spokes import Generator
from dmvpn.errors import Fault
from dmvpn.linux import namespaces
from dmvpn.network.compile import compile_plan
from dmvpn.network.loading import load
from dmvpn.network.plan import Plane
from dmvpn.render import daemon, interfaces, nftables

SIZES: Final = (100, 1_000, 5_000)
START_S: Final = 60.0
REFRESHES: Final = 3_000  # at least, so that a hundred bindings are measured for longer than a blink
NEIGHBOURS: Final = 65_536  # the kernel's default of 1,024 would end both hubs at the same size
FRR: Final = Path("/usr/lib/frr")
_TUNSETIFF: Final = 0x400454CA
_TAP_WITHOUT_HEAD: Final = 0x1002  # IFF_TAP, IFF_NO_PI
NETWORK: Final = Path(__file__).with_name("hub.yaml")


@dataclass(frozen=True, slots=True)
class HubRun:
    """One hub with so many spokes. Rates per second of the clock; processor time in microseconds, all processes."""

    hub: str
    bindings: int
    new_per_s: float
    refreshes_per_s: float
    cpu_new_us: float
    cpu_refresh_us: float
    octets_per_binding: float
    lost: int


class Hub(Protocol):
    """A hub that can be started in a node whose underlay stands. `device` is its mGRE device."""

    name: str
    device: str

    def start(self, node: Node, directory: Path, count: int) -> None:
        """With room for so many spokes and one more."""


class OurHub:
    """dmvpnd with the files of `dmvpn apply` for bench/hub.yaml, and so many spokes listed as that file's one."""

    name = "dmvpnd"
    device = "bench-load"
    plane = "kernel"

    def start(self, node: Node, directory: Path, count: int) -> None:
        network = load(NETWORK.read_text(), str(NETWORK))
        plan = compile_plan(network, "hub", planes=(Plane.KERNEL,), secrets={})
        layout = Below(plan.network, PurePosixPath(directory))
        files = {
            path.name: path
            for part in (interfaces, nftables, daemon)
            for path in write_files(part.render(plan, layout), Path(layout.current))
        }
        for path in (layout.run, layout.state):
            Path(path).mkdir(parents=True, exist_ok=True)
        _list_spokes(files[daemon.FILE], count + 1, self.plane)
        self.make_device(node, files)
        command = (sys.executable, "-m", "dmvpn.daemon.main", str(files[daemon.FILE]))
        node.start("dmvpnd", command, directory / "dmvpnd.log")
        wait_for(Path(layout.control_socket).exists, "dmvpnd to listen", START_S)

    def make_device(self, node: Node, files: dict[str, Path]) -> None:
        """As the router's units do, with its rule set."""
        node.ip("link add lan0 type dummy")
        node.run(
            (sys.executable, "-m", "dmvpn.linux.netstate", "apply", str(files[interfaces.FILE])), timeout_s=START_S
        )
        node.run(("nft", "-f", str(files[nftables.FILE])))


class TapHub(OurHub):
    """The same on a TAP, made before: engine, sockets and neighbour table are those of the mGRE device."""

    name = "dmvpnd on a TAP"
    plane = "userspace"

    def make_device(self, node: Node, files: dict[str, Path]) -> None:
        node.ip(f"link set {self.device} address {spokes.Tap.hub_mac.hex(':')} mtu {spokes.MTU_OCTETS}")
        node.ip(f"link set {self.device} txqueuelen {4 * spokes.WINDOW} up")
        node.ip(f"address add {spokes.HUB_OVERLAY}/{spokes.OVERLAY.prefixlen} dev {self.device}")


def _list_spokes(file: Path, count: int, plane: str) -> None:
    """A network file of thousands of sites would take longer to read than the measurement does."""
    settings = json.loads(file.read_text())
    (cloud,) = settings["clouds"]
    (model,) = cloud["foreign"]
    if plane != cloud["plane"]:  # `crypto: none` is for the kernel plane alone
        cloud.update(plane=plane, used_sets=[], multicast_group=0)
    cloud["foreign"] = [
        {**model, "router": f"s{n}", "identity": f"s{n}", "nbma": str(spoke.nbma), "overlay": [str(spoke.protocol)]}
        for n, spoke in enumerate(spokes.spokes(count))
    ]
    file.write_text(json.dumps(settings))


class FrrHub:
    """zebra and nhrpd as Debian ships them."""

    name = "FRR nhrpd"
    device = "gre1"

    def start(self, node: Node, directory: Path, count: int) -> None:
        """The device as in nhrpd's manual: with a local address, since nhrpd takes its own NBMA address from it."""
        local = f"local {spokes.HUB_NBMA} dev eth0"
        node.ip(f"tunnel add {self.device} mode gre key {spokes.KEY} ttl 64 {local}")
        node.ip(f"link set {self.device} mtu {spokes.MTU_OCTETS} up multicast on")
        node.ip(f"address add {spokes.HUB_OVERLAY}/32 dev {self.device}")
        directory.chmod(0o755)
        sockets = directory / "frr"
        sockets.mkdir()
        shutil.chown(sockets, "frr", "frr")
        settings = {
            "zebra": "",
            "nhrpd": f"interface {self.device}\n ip nhrp network-id 1\n ip nhrp holdtime {int(spokes.HOLDING_S)}\n",
        }
        for part, text in settings.items():
            file = directory / f"{part}.conf"
            file.write_text(text)
            shutil.chown(file, "frr", "frr")
            command = (
                str(FRR / part),
                "-f",
                str(file),
                "-z",
                str(sockets / "zserv.api"),
                "-i",
                str(sockets / f"{part}.pid"),
                "--vty_socket",
                str(sockets),
            )
            node.start(part, command, directory / f"{part}.log")
            wait_for((sockets / f"{part}.vty").exists, f"{part} to listen", START_S)


class TapBench:
    """A hub's node with a TAP, whose other end is ours."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.hub = Node(str(os.getpid()), "hub")

    def __enter__(self) -> Self:
        with ThreadPoolExecutor(1) as elsewhere:  # a thread can be in another namespace than the process
            self._descriptor = elsewhere.submit(self._open).result()
        return self

    def __exit__(self, *_exception: object) -> None:
        os.close(self._descriptor)
        self.hub.close()

    def _open(self) -> int:
        namespaces.join(Path("/run/netns") / self.hub.namespace)
        self.hub.ip(f"tuntap add {TapHub.device} mode tap")
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", TapHub.device.encode(), _TAP_WITHOUT_HEAD))
        return descriptor

    def port(self) -> spokes.Port:
        return spokes.Tap(self._descriptor)


class Bench:
    """A hub's node, the generator's node, and the wire between them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.hub = Node(str(os.getpid()), "hub")
        self.generator = Node(str(os.getpid()), "spokes")

    def __enter__(self) -> Self:
        wire(self.hub, "eth0", self.generator, "eth0", 1500)
        self.hub.ip(f"address add {spokes.HUB_NBMA}/30 dev eth0")
        self.generator.ip(f"address add {spokes.GENERATOR}/30 dev eth0")
        self.hub.ip(f"route add {spokes.NBMA} via {spokes.GENERATOR}")
        self.hub.run(("sysctl", "-qw", "net.ipv4.ip_forward=1"))
        # Without the generator's answer on record the first replies would wait for ARP.
        self.hub.run(("ping", "-c", "1", "-W", "2", str(spokes.GENERATOR)))
        return self

    def __exit__(self, *_exception: object) -> None:
        self.hub.close()
        self.generator.close()

    def port(self) -> spokes.Port:
        text = self.hub.run(("cat", "/sys/class/net/eth0/address")).strip()
        return spokes.Veth(self.generator, bytes.fromhex(text.replace(":", "")))


def bound(hub: Node, device: str) -> int:
    """Neighbour entries on the hub's device that lead somewhere."""
    rows = hub.ip(f"neigh show dev {device} nud all").splitlines()
    return sum(" lladdr " in row for row in rows)


def cpu_s(node: Node) -> float:
    """Seconds on a processor of all processes of the node, threads included."""
    return sum(_ran_ns(process.pid) for process in node.processes.values()) / 1e9


def _ran_ns(pid: int) -> int:
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir())


def resident_octets(node: Node) -> int:
    """VmRSS of all processes of the node."""
    found = 0
    for process in node.processes.values():
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                found += int(line.split()[1]) << 10
    return found


def measure(hub: Hub, count: int) -> HubRun:
    """A fresh hub, every spoke once, then refreshes. Raises Fault unless every binding is there at the end."""
    rows = spokes.spokes(count)
    kind = TapBench if isinstance(hub, TapHub) else Bench
    with TemporaryDirectory(prefix="dmvpn-bench-") as name, kind(Path(name)) as bench:
        hub.start(bench.hub, bench.directory, count)
        generator = Generator(bench.port())
        before = resident_octets(bench.hub)
        # One spoke more than counted shows that the hub is ready.
        first = spokes.registrations(spokes.spokes(count + 1)[count:], 1)
        wait_for(lambda: _is_answered(generator, first), "the hub's first reply", START_S)
        cpu = cpu_s(bench.hub)
        new = generator.round(spokes.registrations(rows, 2))
        spokes.wait_until(lambda: bound(bench.hub, hub.device) > count, f"{count} neighbour entries", START_S)
        cpu_new = cpu_s(bench.hub) - cpu
        resident = resident_octets(bench.hub) - before
        times = max(1, REFRESHES // count)
        packets = spokes.registrations(rows, 3)
        cpu = cpu_s(bench.hub)
        refreshed = generator.round(packets, times)
        cpu_refresh = cpu_s(bench.hub) - cpu
    return HubRun(
        hub=hub.name,
        bindings=count,
        new_per_s=new.answered / new.seconds,
        refreshes_per_s=refreshed.answered / refreshed.seconds,
        cpu_new_us=1e6 * cpu_new / new.answered,
        cpu_refresh_us=1e6 * cpu_refresh / refreshed.answered,
        octets_per_binding=resident / count,
        lost=new.lost + refreshed.lost,
    )


def _is_answered(generator: Generator, packets: dict[bytes, bytes]) -> bool:
    try:
        generator.round(packets)
    except Fault:
        return False
    return True


def enlarge_neighbour_table() -> None:
    """For both hubs alike; the limits belong to the first network namespace."""
    for number, value in (("3", NEIGHBOURS), ("2", NEIGHBOURS // 2), ("1", NEIGHBOURS // 4)):
        subprocess.run(("sysctl", "-qw", f"net.ipv4.neigh.default.gc_thresh{number}={value}"), check=False)
