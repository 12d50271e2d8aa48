"""What dmvpnd says of itself, as types; and asking it. One JSON object a line over a Unix socket.

Two sockets: `read.sock` answers questions (group dmvpn), `control.sock` also acts (root). A question is
{"ask": WORD, ...}; the answer {"ok": true, "answer": {...}} or {"ok": false, "error": {"where","what","fix"}}.
"""

import json
import socket
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from dmvpn.daemon.wire import answer_in
from dmvpn.errors import Fault

LINE_LIMIT_OCTETS = 16 << 20
QUESTION_LIMIT_OCTETS = 32768  # a renewal carries a certificate and a request
# On overlay addresses, by the cloud's device, from the overlay address of a peer whose certificate we checked: a host
# behind some router is none. Any port will do.
OVERLAY_PORT = 2332


class State(StrEnum):
    """The words an operator sees, everywhere the same."""

    DIRECT = "direct"
    VIA_HUB = "via hub"
    CONNECTING = "connecting"
    DOWN = "down"


class WhyNot(StrEnum):
    """Why a pair of routers is not direct: the closed list of `explain`."""

    DIRECT = "direct"
    HUB = "one end is the hub: the tunnel to it is the direct path"
    PHASE_1 = "phase 1: the hub relays by design"
    NOTHING_SENT = "no traffic asked for a direct path yet"
    RESOLVING = "waiting for the far router's answer to the resolution request"
    NO_HUB = "no hub is up to ask where the destination is"
    NO_ANSWER = "nobody answered the resolution request"
    UNREACHABLE = "a router on the way knows no route to the destination"
    NO_BINDING = "the far router answers for nothing at that address"
    REFUSED_BY_PEER = "the far router refused to answer"
    CONNECTING = "IKE is being tried between the two"
    NO_SECURITY = "IKE got no answer at any candidate: a filter or a cut path"
    BOTH_NATTED = "IKE got no answer at any candidate: both routers are behind NAT"
    SYMMETRIC_NAT = "symmetric NAT here (its port differs from peer to peer), and NAT at the far router"
    NOT_AUTHORISED = "the far router's certificate does not allow what it claims"
    PROBING = "an SA is up, the first probe over it is under way"
    NO_PROBE_ANSWER = "an SA is up, but the first probes over it stayed unanswered"
    PATH_DEAD = "the direct path was up and died: it is tried again"
    KERNEL_REFUSED = "the kernel refused the route or neighbour entry"
    OVERRULED = "a shortcut is up, and another route goes before it"
    NO_ROUTE = "this router has no route to the destination"
    FAR_SIDE_SILENT = "the next router did not answer when asked about its part"


@dataclass(frozen=True, slots=True)
class HubRow:
    cloud: str
    router: str
    overlay: str
    nbma: str
    state: str  # up, connecting, down
    why: str
    since_s: float | None
    rtt_ms: float | None


@dataclass(frozen=True, slots=True)
class PeerRow:
    """One peer of one cloud: a hub, a registered client, or the far end of a shortcut."""

    cloud: str
    name: str  # router name from its certificate, or empty
    overlay: str  # its overlay address; of a hub or shortcut of both families both, with a space between
    nbma: str
    kind: str  # hub, client, shortcut
    state: State
    layer: str  # UNDERLAY, IKE, NHRP, ROUTE, MTU, UP: the highest that stands
    why: str
    prefixes: tuple[str, ...]
    endpoint: str  # where its ESP comes from
    since_s: float | None
    expires_s: float | None
    rtt_ms: float | None
    tx_octets: int
    rx_octets: int
    bgp: str = ""  # the session with it, in FRR's word; empty where there is none to be


@dataclass(frozen=True, slots=True)
class CacheRow:
    """One row of the NHRP cache, for `show dmvpn`."""

    cloud: str
    device: str
    protocol: str
    nbma: str
    claimed_nbma: str
    attributes: (
        str  # Cisco's letters: S static, D dynamic, I incomplete, N NATed, L local, X no socket, T1 route installed
    )
    state: str  # UP, NHRP, IKE
    since_s: float | None


@dataclass(frozen=True, slots=True)
class CloudRow:
    name: str
    device: str
    role: str
    plane: str
    mtu_octets: int
    addresses: tuple[str, ...]
    socket: str  # the userspace plane's own state: bound, waiting, down; "kernel" where there is none
    counters: dict[str, int]
    drops: dict[str, int]
    encrypted: bool = True  # False: crypto: none, GRE in clear


SEVERE, WARNING, REMARK = 3, 2, 1  # a network with the first does not do what it is for


@dataclass(frozen=True, slots=True)
class Trouble:
    """A problem in words, and the command that helps."""

    severity: int
    what: str
    run: str

    @classmethod
    def unasked(cls, protocol: str, fault: Fault) -> "Trouble":
        """A routing daemon of ours that says nothing: one that hangs is the doctor's, one that is gone for `run`."""
        what = f"{protocol} cannot be asked: {fault.where}: {fault.what}"
        return cls(WARNING, what, "dmvpn doctor" if fault.fix else "dmvpn run")


@dataclass(frozen=True, slots=True)
class RulesRow:
    """Our nftables table, or our XFRM policies: who took it away, and how often it was put back. Times are ages."""

    table: str  # empty for the policies
    mended: int
    last_s: float | None  # since it was put back
    missing_s: float | None  # how long it was not there, or not whole, that time
    by: str  # the program that did it, as far as the kernel says
    contested: bool  # so often that it is left for some seconds each time
    damaged_s: float | None  # since when it is not whole; None: it is
    trouble: str
    filters: bool = False  # the zone policy is in the table too


@dataclass(frozen=True, slots=True)
class GatewayRow:
    """A gateway that this site's routers share."""

    network: str
    device: str
    address: str
    here: bool  # this router has it now
    offers: int  # its priority, with what it loses while it has no tunnel
    usual: int


@dataclass(frozen=True, slots=True)
class UplinkRow:
    """One ISP link: `state` is online, disconnecting, offline, connecting or disabled."""

    name: str
    device: str
    state: str
    why: str
    since_s: float
    loss: float | None  # a share of the last probes; None where none were sent
    latency_ms: float | None
    addresses: tuple[str, ...]
    gateways: tuple[str, ...]
    probes: tuple[str, ...]
    serves: bool  # has a default route
    tunnels: tuple[str, ...]  # CLOUD to ROUTER, each over it now


@dataclass(frozen=True, slots=True)
class NodeStatus:
    network: str
    router: str
    transport: str
    uptime_s: float
    charon: str  # version, or why it is not there
    aes: bool
    clouds: tuple[CloudRow, ...]
    hubs: tuple[HubRow, ...]
    peers: tuple[PeerRow, ...]
    cache: tuple[CacheRow, ...]
    bgp: tuple[dict[str, Any], ...]
    guards: dict[str, int]  # packets that the fail-closed rules stopped
    troubles: tuple[Trouble, ...]
    rules: RulesRow | None = None
    policies: RulesRow | None = None  # the kernel plane has them
    gateways: tuple[GatewayRow, ...] = ()
    uplinks: tuple[UplinkRow, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One layer as one router sees it on the way to a destination."""

    router: str
    layer: str
    good: bool
    what: str


@dataclass(frozen=True, slots=True)
class PathView:
    """What one router does with packets for `destination`, and how far a direct path has come."""

    router: str
    destination: str
    device: str
    gateway: str
    table: str
    state: State
    via: str  # router name of the next hop
    why: WhyNot
    detail: str
    mtu_octets: int
    arrived: bool  # the destination is this router's, or behind it on a device that is no tunnel
    steps: tuple[Step, ...]


def ask(path: Path, question: dict[str, Any], *, timeout_s: float = 10.0) -> Any:
    """One question to a running dmvpnd; its answer's JSON value.

    Raises Fault if nobody listens (the daemon is not running), it refuses, or it does not answer in time.
    """
    line = json.dumps(question).encode() + b"\n"
    with closing(_connected(path, timeout_s)) as connection:
        try:
            connection.sendall(line)
            answer = _read_line(connection)
        except TimeoutError as error:
            raise Fault("dmvpnd", f"no answer on {path} within {timeout_s:g} s") from error
        except OSError as error:
            raise Fault(str(path), f"cannot be asked: {error.strerror or error}") from error
    if not answer:
        raise Fault("dmvpnd", "closed the connection without an answer")
    return answer_in("dmvpnd", answer)


def stream(path: Path, question: dict[str, Any], *, timeout_s: float = 10.0) -> Generator[Any, None, None]:
    """A question whose answer goes on: its head, then each item as it comes, until dmvpnd ends. Raises Fault."""
    with closing(_connected(path, timeout_s)) as connection:
        connection.sendall(json.dumps(question).encode() + b"\n")
        with connection.makefile("rb") as lines:
            try:
                yield answer_in("dmvpnd", lines.readline(LINE_LIMIT_OCTETS))
                connection.settimeout(None)
                while line := lines.readline(LINE_LIMIT_OCTETS):
                    yield answer_in("dmvpnd", line)
            except TimeoutError as error:
                raise Fault("dmvpnd", f"no answer on {path} within {timeout_s:g} s") from error
            except OSError as error:
                raise Fault("dmvpnd", f"ended: {error.strerror or error}") from error


def _connected(path: Path, timeout_s: float) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout_s)
    try:
        connection.connect(str(path))
    except PermissionError as error:
        connection.close()
        raise Fault(str(path), "permission denied", "run as root, or join group dmvpn for reading") from error
    except (FileNotFoundError, ConnectionRefusedError) as error:
        connection.close()
        raise Fault("dmvpnd", f"not running (nobody listens on {path})", "start it with `dmvpn run`") from error
    except OSError as error:
        connection.close()
        raise Fault(str(path), f"cannot be asked: {error.strerror or error}") from error
    return connection


def _read_line(connection: socket.socket) -> bytes:
    received = bytearray()
    while not received.endswith(b"\n") and len(received) < LINE_LIMIT_OCTETS:
        piece = connection.recv(65536)
        if not piece:
            break
        received += piece
    return bytes(received)
