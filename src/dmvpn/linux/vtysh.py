"""What our own FRR says, through vtysh. FRR manual, "VTY shell"; show commands with json."""

import errno
import json
import re
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

from dmvpn.errors import Fault
from dmvpn.linux import files, process, process_list

LOG_LIMIT_OCTETS = 16 << 20
SOON_S = 3.0  # for whom others wait meanwhile: dmvpnd, asked for its status
_LIMIT_S = 10.0
Made = tuple[int, int]  # of a socket: its inode, and when it was made, in nanoseconds by the wall clock
_ROUTING = ("bgpd", "ospfd", "ospf6d", "ripd", "ripngd")
_OSPF_DAEMONS = {4: "ospfd", 6: "ospf6d"}
_RIP_DAEMONS = {4: ("ripd", "show ip rip status"), 6: ("ripngd", "show ipv6 ripng status")}
# The three numbers are bad packets, bad routes, distance; ripngd has them on a line of their own.
_RIP_SOURCE = re.compile(r"^ +([\da-f.:]+)\s+\d+(?: +\d+){2} +(\d+):(\d\d):(\d\d)", re.MULTILINE)
_BAD_AS = re.compile(r"NOTIFICATION: sent to neighbor (\S+) 2/2 ")


@dataclass(frozen=True, slots=True)
class BgpPeer:
    """A neighbour in one address family. `state` is FRR's word; `prefixes`: received and accepted; `up_s`: since."""

    address: IPv4Address | IPv6Address
    asn: int
    state: str
    prefixes: int
    up_s: float
    family: str  # FRR's word, such as ipv4Unicast
    dynamic: bool  # came by a listen range


@dataclass(frozen=True, slots=True)
class OspfNeighbour:
    """A neighbour of OSPF. `full`: both have the same picture of the area, RFC 2328 10.1. OSPFv3's is link-local."""

    router_id: IPv4Address
    address: IPv4Address | IPv6Address
    device: str
    full: bool


@dataclass(frozen=True, slots=True)
class RipSource:
    """Who told ripd or ripngd of routes, and how long ago it did so last. RIPng's is link-local."""

    address: IPv4Address | IPv6Address
    heard_s: float


def is_served(run: Path, daemon: str) -> bool:
    """Whether the daemon of this instance listens for commands: FRR leaves its socket behind when it ends.

    One that hangs listens; after a few that wait for it, connect(2) would wait, too (EAGAIN).
    """
    kind = socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    with socket.socket(socket.AF_UNIX, kind) as probe:
        return probe.connect_ex(str(run / f"{daemon}.vty")) in (0, errno.EAGAIN)


def _ended_by(run: Path, daemon: str) -> str:
    """What ends a daemon that hangs, whoever keeps it. Its pid file does not tell: our supervisor numbers anew."""
    for entry in process_list.beside_us():
        with suppress(OSError):
            program, *words = (entry / "cmdline").read_bytes().split(b"\0")
            if program.endswith(f"/{daemon}".encode()) and str(run).encode() in words:
                return f"kill -9 {entry.name}, after which it is started again; then read its log"
    return "restart its service, and read its log"


def made(path: Path) -> Made | None:
    """Which process made this socket, as far as two can be told apart; None if it is not there."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_ino, facts.st_mtime_ns


def older_than_zebra(run: Path) -> tuple[Made | None, tuple[str, ...]]:
    """This instance's zebra, and the routing daemons that serve and were there before it."""
    zebra = made(run / "zserv.api")
    sockets = {daemon: made(run / f"{daemon}.vty") for daemon in _ROUTING}
    if zebra is None:
        return None, ()
    before = [daemon for daemon, own in sockets.items() if own is not None and own[1] < zebra[1]]
    return zebra, tuple(daemon for daemon in before if is_served(run, daemon))


def show(run: Path, command: str, *, daemon: str, limit_s: float = _LIMIT_S) -> Any:
    """The answer of a show command that ends in json, parsed. `run` holds the vty sockets of one instance.

    The `daemon` alone is asked: another one that hangs is not waited for, and of what every daemon has, the answers of
    several are not one JSON document.

    Raises Fault when it does not listen there, does not answer, or what it says is not JSON.
    """
    argv = ("vtysh", "--vty_socket", str(run), "-d", daemon, "-c", command)
    result = _answer(argv, daemon, limit_s)
    try:
        return json.loads(result.stdout or b"{}")
    except ValueError as error:
        raise Fault("frr", f"{command}: {process.shown(result.stdout)}") from error


def _answer(argv: tuple[str, ...], daemon: str, limit_s: float) -> process.Result:
    try:
        return process.run(argv, timeout_s=limit_s, package="frr")
    except process.TooLate as fault:
        if is_served(Path(argv[2]), daemon):
            what = f"takes no command within {limit_s:g} s, and runs"
            raise Fault(daemon, what, _ended_by(Path(argv[2]), daemon)) from fault
        raise


def bgp_peers(run: Path, limit_s: float = _LIMIT_S) -> tuple[BgpPeer, ...]:
    """All BGP neighbours of an instance, one row for each address family; none when it has no bgpd.

    A hub's groups are active in both families, and a session carries its own: the other one has nothing to say.
    """
    if not is_served(run, "bgpd"):  # from FRR 10 on vtysh fails then
        return ()
    families = show(run, "show bgp summary json", daemon="bgpd", limit_s=limit_s)
    try:
        return tuple(
            BgpPeer(
                address=ip_address(address),
                asn=int(peer["remoteAs"]),
                state=str(peer["state"]),
                prefixes=int(peer.get("pfxRcd", 0)),
                up_s=int(peer.get("peerUptimeMsec", 0)) / 1000,
                family=family,
                dynamic=bool(peer.get("dynamicPeer", False)),
            )
            for family, summary in families.items()
            if isinstance(summary, dict)
            for address, peer in summary.get("peers", {}).items()
            if (":" in address) is ("6" in family) or peer.get("pfxRcd") or peer.get("pfxSnt")
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Fault("frr", f"show bgp summary json: unexpected form: {error!r}") from error


def ospf_versions(run: Path) -> frozenset[int]:
    """The families whose OSPF an instance has: 4 by ospfd, 6 by ospf6d."""
    return frozenset(version for version, daemon in _OSPF_DAEMONS.items() if is_served(run, daemon))


def ospf_neighbours(run: Path, limit_s: float = _LIMIT_S) -> tuple[OspfNeighbour, ...]:
    """All OSPF neighbours of an instance, of both versions; none when it has neither ospfd nor ospf6d."""
    return (*_ospfv2_neighbours(run, limit_s), *_ospfv3_neighbours(run, limit_s))


def _ospfv2_neighbours(run: Path, limit_s: float) -> Iterator[OspfNeighbour]:
    if 4 not in ospf_versions(run):
        return
    command = "show ip ospf neighbor json"
    try:
        for router_id, rows in show(run, command, daemon="ospfd", limit_s=limit_s).get("neighbors", {}).items():
            for row in rows:
                yield OspfNeighbour(
                    router_id=IPv4Address(router_id),
                    address=IPv4Address(row["address"] if "address" in row else row["ifaceAddress"]),
                    device=str(row["ifaceName"]).partition(":")[0],
                    full=str(row.get("nbrState") or row.get("state")).startswith("Full"),
                )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Fault("frr", f"{command}: unexpected form: {error!r}") from error


def _ospfv3_neighbours(run: Path, limit_s: float) -> Iterator[OspfNeighbour]:
    if 6 not in ospf_versions(run):
        return
    command = "show ipv6 ospf6 neighbor detail json"
    try:
        for name, row in show(run, command, daemon="ospf6d", limit_s=limit_s).items():
            yield OspfNeighbour(
                router_id=IPv4Address(name.partition("%")[0]),
                address=IPv6Address(row["linkLocalAddress"]),
                device=str(row["interface"]),
                full=row["neighborState"] == "Full",
            )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Fault("frr", f"{command}: unexpected form: {error!r}") from error


def rip_versions(run: Path) -> frozenset[int]:
    """The families whose RIP an instance has: 4 by ripd, 6 by ripngd."""
    return frozenset(version for version, (daemon, _) in _RIP_DAEMONS.items() if is_served(run, daemon))


def rip_sources(run: Path, limit_s: float = _LIMIT_S) -> tuple[RipSource, ...]:
    """Of an instance's ripd and ripngd, which forget them after three minutes; none without them. Raises Fault."""
    return tuple(source for version in sorted(rip_versions(run)) for source in _rip_sources(run, version, limit_s))


def _rip_sources(run: Path, version: int, limit_s: float) -> Iterator[RipSource]:
    daemon, command = _RIP_DAEMONS[version]
    argv = ("vtysh", "--vty_socket", str(run), "-d", daemon, "-c", command)
    _, _, text = _answer(argv, daemon, limit_s).text.partition("Routing Information Sources:")
    for row in _RIP_SOURCE.finditer(text):
        with suppress(ValueError):
            yield RipSource(ip_address(row[1]), int(row[2]) * 3600 + int(row[3]) * 60 + int(row[4]))


def denied_prefixes(run: Path, limit_s: float = _LIMIT_S) -> dict[str, int]:
    """By prefix list of bgpd's: how many prefixes an entry of it has denied, where there were any. Raises Fault."""
    found: Counter[str] = Counter()
    for family in ("ip", "ipv6"):
        command = f"show {family} prefix-list detail json"
        lists = show(run, command, daemon="bgpd", limit_s=limit_s).get("BGP", {})
        try:
            for name, row in lists.items():
                denied = sum(int(one["hitCount"]) for one in row["entries"] if one["type"] == "deny")
                found[name] += denied
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Fault("frr", f"show {family} prefix-list detail json: unexpected form: {error!r}") from error
    return {name: count for name, count in found.items() if count}


def wrong_as(log: Path) -> dict[IPv4Address | IPv6Address, int]:
    """By neighbour: OPENs that named another AS than it has here, RFC 4271 6.2, as far back as bgpd's log goes.

    FRR counts them for the connection alone, which is forgotten with its end.
    """
    found: Counter[IPv4Address | IPv6Address] = Counter()
    try:
        text = files.read_text(log, limit_octets=LOG_LIMIT_OCTETS)
    except Fault:
        return {}
    for match in _BAD_AS.finditer(text):
        with suppress(ValueError):
            found[ip_address(match[1])] += 1
    return dict(found)
