"""Routers for these tests: namespaces joined by a veth pair whose ends are called ipsec0, as charon's is."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from dmvpn.linux import namespaces

DEVICE = "acme-blue"
KEY = 1
MTU = 1372
T = TypeVar("T")


def wait_for(condition: Callable[[], T], what: str, timeout_s: float = 10.0) -> T:
    """What `condition` says as soon as it says yes."""
    end = time.monotonic() + timeout_s
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < end, f"waited {timeout_s} s for {what}"
        time.sleep(0.02)


class Router:
    """One namespace with a TAP; transport 100.64.0.N, overlay 10.255.1.N."""

    def __init__(self, number: int, directory: Path) -> None:
        self.number = number
        self.namespace = f"plane-{os.getpid()}-{number}"
        self.transport = f"100.64.0.{number}"
        self.overlay = f"10.255.1.{number}"
        self.mac = f"02:00:64:40:00:{number:02x}"
        self.control = directory / f"gre{number}.sock"
        self.log = directory / f"gre{number}.log"
        self.file = directory / f"gre{number}.json"
        self.process: subprocess.Popen[bytes] | None = None
        subprocess.run(("ip", "netns", "add", self.namespace), check=True)

    def run(self, *command: str, check: bool = True) -> str:
        done = subprocess.run(
            ("ip", "netns", "exec", self.namespace, *command), check=False, capture_output=True, text=True, timeout=30
        )
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def ip(self, line: str) -> str:
        return self.run("ip", *line.split())

    def set_up(self) -> None:
        self.ip("link set lo up")
        self.ip(f"address add {self.transport}/32 dev lo")
        self.run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
        self.ip(f"tuntap add {DEVICE} mode tap")
        self.ip(f"link set {DEVICE} address {self.mac} mtu {MTU} up")
        self.ip(f"address add {self.overlay}/24 dev {DEVICE}")

    def security_up(self) -> None:
        """What charon does when its SA is up: the device and the routes of the peers' transport addresses."""
        self.ip("link set ipsec0 up")
        self.ip(f"route add 100.64.0.0/24 dev ipsec0 src {self.transport}")

    def knows(self, other: "Router") -> None:
        self.ip(f"neigh replace {other.overlay} lladdr {other.mac} dev {DEVICE} nud permanent")

    def write_settings(self, *, key: int | None = KEY, ttl: int = 64, tos: int | str = "inherit") -> None:
        tunnel = {"device": DEVICE, "key": key, "ttl": ttl, "tos": tos}
        tree = {
            "version": 1,
            "network": "acme",
            "bind_device": "ipsec0",
            "local": self.transport,
            "control": str(self.control),
            "tunnels": [tunnel],
        }
        self.file.write_text(json.dumps(tree))

    def start(self, *, bound: bool = True) -> None:
        command = ("ip", "netns", "exec", self.namespace, sys.executable, "-m", "dmvpn.plane.main", str(self.file))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_for(self._answers, f"dmvpn-gre of {self.namespace}: {self.log.read_text()}")
        if bound:
            wait_for(lambda: self.state()["socket"] == "bound", "the socket to be bound")

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.control)) == 0

    def kill(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(10)
        self.process = None
        return code

    def ask(self, **request: object) -> dict:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(self.control))
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as lines:
                reply = json.loads(lines.readline())
        assert reply["ok"], reply
        return reply

    def allow(self, other: "Router", *prefixes: str) -> None:
        self.ask(op="allow", tunnel=DEVICE, nbma=other.transport, prefixes=prefixes or [f"{other.overlay}/32"])

    def state(self) -> dict:
        return self.ask(op="state")

    def drops(self) -> dict[str, int]:
        """Drops of the socket and of the tunnel together."""
        state = self.state()
        return {**state["drops"], **state["tunnels"][DEVICE]["drops"]}

    def packet_socket(self, protocol: int, device: str) -> socket.socket:
        """A packet(7) socket in the namespace: frames of one EtherType on one device, without Ethernet header."""
        with self._inside():
            opened = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(protocol))
            opened.bind((device, protocol))
        opened.settimeout(5)
        return opened

    def raw_socket(self) -> socket.socket:
        """A raw(7) socket for GRE, headers and all, of somebody who holds the SA and misuses it."""
        with self._inside():
            opened = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"ipsec0")
        return opened

    @contextmanager
    def _inside(self) -> Iterator[None]:
        home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            namespaces.join(Path("/run/netns") / self.namespace)
            yield
        finally:
            namespaces.join(Path(f"/proc/self/fd/{home}"))
            os.close(home)

    def pings(self, address: str, *options: str) -> bool:
        command = ("ping", "-n", "-c", "1", "-W", "1", *options, address)
        return " 0% packet loss" in self.run(*command, check=False)

    def close(self) -> None:
        if self.process is not None:
            self.kill(signal.SIGKILL)
        subprocess.run(("ip", "netns", "delete", self.namespace), check=False)


def join(left: Router, right: Router) -> None:
    """The wire between two routers: it stands for charon's tunnel."""
    wire = f"ip link add ipsec0 netns {left.namespace} type veth peer name ipsec0 netns {right.namespace}"
    subprocess.run(wire.split(), check=True)
    left.security_up()
    right.security_up()
