"""The process a lab lives in: first of its own PID namespace, so the kernel ends every process of the lab with it.

It owns the namespaces of all nodes as open descriptors, so they are reached through /proc/KEEPER/fd/N and have no name
or mount on the host: with the keeper everything is gone, whatever killed it. It holds the lab's lock (see state.py) and
does nothing else. Until `detach` it dies with the command that started it.
"""

import json
import os
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from dmvpn.errors import Fault
from dmvpn.lab.private import furnish
from dmvpn.lab.topology import Node, NodeKind
from dmvpn.linux import namespaces
from dmvpn.linux.namespaces import CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUTS, Handles
from dmvpn.linux.pace import patience
from dmvpn.network.plan import Address

CLOSET = ""  # the keeper's own network namespace: the relay's ends of all cables lie there
_KINDS = ("net", "mnt", "uts")
_REPLY_LIMIT_OCTETS = 1 << 20
START_LIMIT_S = 30.0


@dataclass(slots=True)
class Keeper:
    """The starting command's end: the keeper's process id as the host counts, and the handles of every node."""

    pid: int
    control: socket.socket
    handles: dict[str, Handles]
    ended: bool = False

    def detach(self) -> None:
        """The lab outlives this command."""
        self.control.sendall(b"detach")
        if self.control.recv(16) != b"done":
            raise Fault("lab", "its keeper died")
        self.control.close()

    def end(self) -> None:
        """Kills the lab and waits until every process in it is gone."""
        if self.ended:
            return
        self.ended = True
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.control.close()


def start(lab: str, nodes: Sequence[Node], names: Sequence[tuple[Address, str]], lock: int) -> Keeper:
    """Forks the keeper; returns once every node has its namespaces. The keeper inherits `lock`. Raises Fault."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _REPLY_LIMIT_OCTETS)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _REPLY_LIMIT_OCTETS)
    namespaces.unshare(CLONE_NEWPID)
    try:
        pid = os.fork()
        if pid == 0:
            _be_keeper(lab, nodes, names, theirs, keep={theirs.fileno(), lock})
    finally:
        namespaces.join(Path("/proc/self/ns/pid"))  # or every later child of this command would be the lab's
    theirs.close()
    keeper = Keeper(pid, ours, {})
    try:
        ours.settimeout(patience(START_LIMIT_S))
        keeper.handles = _handles(pid, _reply(ours))
    except BaseException:
        keeper.end()
        raise
    return keeper


def handles_of(pid: int, descriptors: dict[str, int]) -> Handles:
    """How the host reaches a node: descriptors that the keeper holds open."""
    held = Path("/proc") / str(pid)
    net, mnt, uts = (held / "fd" / str(descriptors[kind]) for kind in _KINDS)
    return Handles(net=net, mnt=mnt, pid=held / "ns/pid", uts=uts)


def closet_of(pid: int) -> Handles:
    """The keeper's own namespaces."""
    own = Path("/proc") / str(pid) / "ns"
    return Handles(net=own / "net", mnt=own / "mnt", pid=own / "pid", uts=own / "uts")


def _handles(pid: int, reply: dict[str, dict[str, int]]) -> dict[str, Handles]:
    return {CLOSET: closet_of(pid)} | {name: handles_of(pid, held) for name, held in reply.items()}


def _reply(control: socket.socket) -> dict[str, dict[str, int]]:
    try:
        octets = control.recv(_REPLY_LIMIT_OCTETS)
    except TimeoutError:
        raise Fault("lab", f"its namespaces were not there within {patience(START_LIMIT_S):g} s") from None
    if not octets:
        raise Fault("lab", "its keeper died while it started")
    reply: dict[str, Any] = json.loads(octets)
    if "fault" in reply:
        raise Fault(*reply["fault"])
    return dict(reply["nodes"])


def _be_keeper(
    lab: str, nodes: Sequence[Node], names: Sequence[tuple[Address, str]], control: socket.socket, keep: set[int]
) -> NoReturn:
    """Never returns: this is the first process of the lab's PID namespace."""
    try:
        namespaces.die_with_parent(signal.SIGKILL)
        os.setsid()  # Ctrl-C is for the command, which then ends us
        _let_go_of_files(keep)
        reply: dict[str, Any] = {"nodes": _make_nodes(lab, nodes, names)}
    except Fault as fault:
        control.sendall(json.dumps({"fault": [fault.where, fault.what, fault.fix]}).encode())
        os._exit(1)
    except OSError as refusal:
        control.sendall(json.dumps({"fault": ["lab", str(refusal), ""]}).encode())
        os._exit(1)
    # Ignored, so that the kernel reaps for us: orphans of the whole lab end up here.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(OSError):
        control.sendall(json.dumps(reply).encode())
        if control.recv(16) == b"detach":
            namespaces.die_with_parent(0)
            control.sendall(b"done")
            control.close()
            while True:
                signal.pause()
    os._exit(0)  # the command is gone without a word: so are we


def _let_go_of_files(keep: set[int]) -> None:
    """A pipe or terminal of the command must not stay open for as long as the lab is up."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - entries are numbers, not files of ours
        if (descriptor := int(name)) > 2 and descriptor not in keep:
            with suppress(OSError):
                os.close(descriptor)


def _make_nodes(lab: str, nodes: Sequence[Node], names: Sequence[tuple[Address, str]]) -> dict[str, dict[str, int]]:
    os.chdir("/")
    namespaces.unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC)
    namespaces.mount("none", Path("/"), flags=namespaces.MS_REC | namespaces.MS_PRIVATE)
    namespaces.mount("proc", Path("/proc"), "proc", flags=namespaces.MS_NOSUID | namespaces.MS_NODEV)
    namespaces.give_up_clock()
    namespaces.set_hostname(f"lab-{lab}")
    started = [(node, *_start_node(lab, node, names)) for node in nodes]
    return {node.name: _hold(node, pid, ready) for node, pid, ready in started}


def _start_node(lab: str, node: Node, names: Sequence[tuple[Address, str]]) -> tuple[int, socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid:
        theirs.close()
        return pid, ours
    ours.close()
    try:
        namespaces.unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC)
        if node.kind is not NodeKind.SWITCH:
            furnish(lab, node.name, names)
        theirs.sendall(b"ready")
    except (Fault, OSError) as refusal:
        theirs.sendall(str(refusal).encode())
    theirs.recv(2)  # until the keeper holds our namespaces; if it is gone, so are we
    os._exit(0)


def _hold(node: Node, pid: int, ready: socket.socket) -> dict[str, int]:
    said = ready.recv(4096)
    if said != b"ready":
        raise Fault(f"node {node.name}", said.decode(errors="replace") or "died while it started")
    held = {kind: os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in _KINDS}
    ready.sendall(b"go")
    ready.close()
    os.waitpid(pid, 0)
    return held
