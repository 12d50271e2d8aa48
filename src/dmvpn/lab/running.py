"""A lab that is up: found by its name, asked, impaired, ended. lifecycle.py makes one."""

import errno
import fcntl
import json
import os
import select
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from dmvpn.errors import Fault, WrongInput
from dmvpn.lab import keeper, leases, state
from dmvpn.lab.impairment import Change, Direction, Impairment
from dmvpn.lab.node import LabNode
from dmvpn.lab.topology import End, Link, NodeKind
from dmvpn.lab.wiring import Emulator
from dmvpn.linux import files
from dmvpn.linux.pace import patience
from dmvpn.network.plan import Address

DOWN_LIMIT_S = 30.0
RELAY_REPLY_OCTETS = 1 << 20
BOTH = (Direction.UP, Direction.DOWN)


@dataclass(frozen=True, slots=True)
class LinkQuality:
    """Both directions of a link as they are now, and as the file wants them."""

    link: str
    ends: tuple[str, str]
    up: Impairment
    down: Impairment
    file_up: Impairment
    file_down: Impairment


@dataclass(frozen=True, slots=True)
class RelayCounts:
    """One direction through the relay. `overflow` and `late` are where the relay itself was the limit."""

    link: str
    direction: Direction
    packets: int
    octets: int
    lost: int
    silenced: int
    queue_full: int
    overflow: int
    late: int
    latest_s: float


@dataclass(frozen=True, slots=True)
class LabStatus:
    """What `lab status` shows. `relay` is empty with netem."""

    name: str
    network: str
    file: str
    emulator: Emulator
    nodes: tuple[LabNode, ...]
    links: tuple[LinkQuality, ...]
    cuts: tuple[tuple[str, str], ...]
    relay: tuple[RelayCounts, ...]
    relay_cpu_share: float
    not_started: tuple[str, ...]
    planes: str


@dataclass(frozen=True, slots=True)
class Lab:
    """A lab that is up, whoever started it."""

    name: str
    network: str
    file: str
    directory: Path
    keeper_pid: int
    emulator: Emulator
    nodes: dict[str, LabNode]
    links: dict[str, Link]
    outside: dict[str, tuple[Address, ...]]
    hosts: dict[str, str]  # the address of every host
    not_started: tuple[str, ...]
    planes: str  # of its routers of ours, in words

    def node(self, name: str) -> LabNode:
        """Raises WrongInput for a name the lab does not have."""
        try:
            return self.nodes[name]
        except KeyError:
            raise WrongInput(f"lab {self.name}", f"has no node {name}", f"it has {', '.join(self.nodes)}") from None

    def routers(self) -> tuple[LabNode, ...]:
        return tuple(node for node in self.nodes.values() if node.kind is NodeKind.ROUTER)

    # Impairments: links.json is what is set; the relay or netem follows it.

    def impair(self, link: str, change: Change, directions: Sequence[Direction] = BOTH) -> LinkQuality:
        """Merges `change` into what is set, in these directions; gives both directions as they are then."""
        self._impairable(link)
        with self._settings() as settings:
            now = {direction: self._set(settings, link, direction) for direction in BOTH}
            now |= {direction: now[direction].merged(change) for direction in directions}
            self._enforce(settings, link, now)
        return self._quality(link, now)

    def heal(self, link: str) -> LinkQuality:
        """Back to what the file says."""
        wanted = self._impairable(link)
        assert wanted.up is not None
        assert wanted.down is not None
        now = {Direction.UP: wanted.up, Direction.DOWN: wanted.down}
        with self._settings() as settings:
            self._enforce(settings, link, now)
        return self._quality(link, now)

    def renumber(self, link: str) -> Address:
        """The ISP of an uplink with dhcp: true or pppoe gives it its next address, which is returned."""
        known = self.links.get(link)
        if known is None:
            raise WrongInput(f"lab {self.name}", f"has no link {link}", f"it has {', '.join(self.links)}")
        return self.node(known.b.node).call(partial(leases.renumber, link))

    def heal_all(self) -> None:
        """Every link and every path."""
        with self._settings() as settings:
            links, cuts = tuple(settings["links"]), [tuple(pair) for pair in settings["cuts"]]
        for link in links:
            self.heal(link)
        for a, b in cuts:
            self.heal_path(a, b)

    def cut_path(self, a: str, b: str) -> None:
        """The WAN carries nothing between these two routers any more; each still reaches all others."""
        self._change_cut("add", a, b)

    def heal_path(self, a: str, b: str) -> None:
        self._change_cut("delete", a, b)

    def qualities(self) -> tuple[LinkQuality, ...]:
        with self._settings() as settings:
            return tuple(
                self._quality(name, {direction: self._set(settings, name, direction) for direction in BOTH})
                for name, link in self.links.items()
                if link.impairable
            )

    def status(self) -> LabStatus:
        relay: dict[str, Any] = {"links": [], "cpu_s": 0.0, "elapsed_s": 1.0}
        if self.emulator is Emulator.RELAY:
            relay = ask_relay(self.directory / state.RELAY_SOCKET, {"op": "state"})
        names = [name for name in RelayCounts.__dataclass_fields__ if name != "direction"]
        counts = tuple(
            RelayCounts(direction=Direction(entry["direction"]), **{name: entry[name] for name in names})
            for entry in relay["links"]
        )
        with self._settings() as settings:
            cuts = tuple((a, b) for a, b in settings["cuts"])
        return LabStatus(
            name=self.name,
            network=self.network,
            file=self.file,
            emulator=self.emulator,
            nodes=tuple(self.nodes.values()),
            links=self.qualities(),
            cuts=cuts,
            relay=counts,
            relay_cpu_share=relay["cpu_s"] / max(relay["elapsed_s"], 1e-3),
            not_started=self.not_started,
            planes=self.planes,
        )

    def down(self) -> None:
        """Ends the lab; returns when every process in it is gone. Raises Fault if that takes too long."""
        end_keeper(self.name, self.keeper_pid, self.directory.parent)

    def _impairable(self, link: str) -> Link:
        known = [name for name, candidate in self.links.items() if candidate.impairable]
        if link not in known:
            raise WrongInput(f"lab {self.name}", f"no link {link} can be impaired", f"it has {', '.join(known)}")
        return self.links[link]

    @contextmanager
    def _settings(self) -> Iterator[dict[str, Any]]:
        """links.json under its own lock: two impair commands at once must not lose one another's change."""
        with (self.directory / state.QUALITY).open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            settings = json.load(file)
            before = json.dumps(settings)
            yield settings
            if (after := json.dumps(settings)) != before:
                file.seek(0)
                file.truncate()
                file.write(after.encode())

    def _set(self, settings: dict[str, Any], link: str, direction: Direction) -> Impairment:
        override = settings["links"].get(link)
        if override is not None:
            return Impairment.from_json(override[direction.value])
        wanted = self.links[link].up if direction is Direction.UP else self.links[link].down
        assert wanted is not None
        return wanted

    def _enforce(self, settings: dict[str, Any], link: str, now: dict[Direction, Impairment]) -> None:
        ends = {Direction.UP: self.links[link].a, Direction.DOWN: self.links[link].b}
        for direction, impairment in now.items():
            if self.emulator is Emulator.RELAY:
                request = {
                    "op": "set",
                    "link": link,
                    "direction": direction.value,
                    "impairment": impairment.to_json(),
                }
                ask_relay(self.directory / state.RELAY_SOCKET, request)
            else:
                end = ends[direction]
                argv = ("tc", "qdisc", "replace", "dev", end.device, "root", *impairment.netem())
                self.nodes[end.node].run(argv)
        settings["links"][link] = {direction.value: impairment.to_json() for direction, impairment in now.items()}

    def _quality(self, link: str, now: dict[Direction, Impairment]) -> LinkQuality:
        wanted = self.links[link]
        assert wanted.up is not None
        assert wanted.down is not None
        ends = (f"{wanted.a.node}:{wanted.a.device}", f"{wanted.b.node}:{wanted.b.device}")
        return LinkQuality(link, ends, now[Direction.UP], now[Direction.DOWN], wanted.up, wanted.down)

    def _change_cut(self, verb: str, a: str, b: str) -> None:
        for router in (a, b):
            if router not in self.outside:
                known = ", ".join(self.outside)
                raise WrongInput(f"lab {self.name}", f"{router} is no router of it", f"its routers are {known}")
        pairs = [(x, y) for x in self.outside[a] for y in self.outside[b] if x.version == y.version]
        if any(x == y for x, y in pairs):
            raise WrongInput(f"{a} {b}", "both are behind one NAT", "impair an uplink of one of them instead")
        with self._settings() as settings:
            wanted = sorted((a, b))
            if (wanted in settings["cuts"]) == (verb == "add"):
                return
            lines = "".join(f"{verb} element inet lab cut{x.version} {{ {x} . {y}, {y} . {x} }}\n" for x, y in pairs)
            for node in self.nodes.values():
                if node.kind is NodeKind.WAN:
                    node.run(("nft", "-f", "-"), input=lines.encode())
            if verb == "add":
                settings["cuts"].append(wanted)
            else:
                settings["cuts"].remove(wanted)


def find(name: str | None = None, base: Path = state.STATE_DIRECTORY) -> Lab:
    """The lab of that name, or the only one that is up. Raises Fault when there is none, or several without a name."""
    up = state.living(base)
    if name is None:
        if len(up) != 1:
            fix = f"name one of {', '.join(up)}" if up else "start one with: dmvpn lab up FILE"
            raise Fault("lab", "several labs are up" if up else "no lab is up", fix)
        name = up[0]
    described = state.description(name, base)
    if "machine" in described:
        raise Fault(f"lab {name}", "is in a virtual machine", f"run inside: dmvpn lab exec --name {name} NODE COMMAND")
    return opened(base / name, described)


def are_several(base: Path = state.STATE_DIRECTORY) -> bool:
    """Whether a command must say which lab it means."""
    return len(state.living(base)) > 1


def opened(directory: Path, description: dict[str, Any]) -> Lab:
    """The Lab that lab.json describes."""
    pid = int(description["keeper"])
    nodes = {
        name: LabNode(name, NodeKind(entry["kind"]), keeper.handles_of(pid, entry["descriptors"]), directory.name)
        for name, entry in description["nodes"].items()
    }
    return Lab(
        name=directory.name,
        network=description["network"],
        file=description["file"],
        directory=directory,
        keeper_pid=pid,
        emulator=Emulator(description["emulator"]),
        nodes=nodes,
        links={name: _link_from_json(name, entry) for name, entry in description["links"].items()},
        outside={router: tuple(ip_address(text) for text in texts) for router, texts in description["outside"].items()},
        hosts=dict(description["hosts"]),
        not_started=tuple(description["not_started"]),
        planes=description["planes"],
    )


def link_to_json(link: Link) -> dict[str, Any]:
    return {
        "a": [link.a.node, link.a.device],
        "b": [link.b.node, link.b.device],
        "mtu_octets": link.mtu_octets,
        "up": None if link.up is None else link.up.to_json(),
        "down": None if link.down is None else link.down.to_json(),
    }


def _link_from_json(name: str, entry: dict[str, Any]) -> Link:
    return Link(
        name,
        End(*entry["a"]),
        End(*entry["b"]),
        entry["mtu_octets"],
        None if entry["up"] is None else Impairment.from_json(entry["up"]),
        None if entry["down"] is None else Impairment.from_json(entry["down"]),
    )


def ask_relay(path: Path, request: dict[str, Any]) -> dict[str, Any]:
    """One request, one reply. Raises Fault when the relay is gone or refuses."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.settimeout(10.0)
        try:
            client.connect(str(path))
            client.sendall(json.dumps(request).encode())
            reply: dict[str, Any] = json.loads(client.recv(RELAY_REPLY_OCTETS))
        except (OSError, ValueError) as trouble:
            raise Fault("relay", f"does not answer: {trouble}", "take the lab down and up again") from trouble
    if not reply["ok"]:
        raise Fault("relay", str(reply["error"]))
    return reply


def end_keeper(lab: str, pid: int, base: Path) -> None:
    """Ends a lab's keeper and waits for it, as long as the lab is up. Raises Fault if that takes too long."""
    with _process(pid) as descriptor:
        if descriptor is not None and lab in state.living(base):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            limit_s = patience(DOWN_LIMIT_S)
            if not select.select([descriptor], [], [], limit_s)[0]:
                raise Fault(f"lab {lab}", f"did not end within {limit_s:g} s")
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)  # when it was this very process that brought the lab up
    state.sweep(base)


@contextmanager
def _process(pid: int) -> Iterator[int | None]:
    """A pidfd, so that the process we end is the one we looked at; None if it is gone."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError as refusal:
        if refusal.errno != errno.ESRCH:
            raise Fault("lab", f"its keeper {pid} cannot be reached: {refusal.strerror}") from refusal
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def write_settings(directory: Path) -> None:
    """The first links.json: nothing set beyond the file."""
    files.write(directory / state.QUALITY, json.dumps({"links": {}, "cuts": []}), mode=0o600)
