"""Routes of ours: the shortcuts. rtnetlink(7), linux/rtnetlink.h. What others' routes say is routewatch.py."""

import errno
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Self

from dmvpn.errors import Fault
from dmvpn.linux.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    Address,
    Message,
    NetlinkRefusal,
    Requests,
    address_of,
    attribute,
    attributes,
    device_index,
    device_name,
    family_of,
)

Network = IPv4Network | IPv6Network

RTM_NEWROUTE = 24
RTM_DELROUTE = 25
RTM_GETROUTE = 26
TABLE_MAIN = 254
TABLE_LOCAL = 255
# Shortcuts stand in the main table, so that no packet pays for a rule, and longer prefixes go before them, whoever has
# them. RTPROT_REDIRECT says what they are, and is what zebra passes over (rt_netlink.c): a routing daemon that saw one
# would take it for better than what it has learned itself. FRR's own routes have the metric 20. BIRD deletes what is of
# this protocol from a table that it keeps.
SHORTCUT_PROTOCOL = 1
SHORTCUT_METRIC = 10
_RTMSG = struct.Struct("=BBBBBBBBI")  # family, dst_len, src_len, tos, table, protocol, scope, type, flags
_RTNH = struct.Struct("=HBBi")  # length, flags, hops, ifindex
_AF_INET = 2
_AF_INET6 = 10
_RTN_UNICAST = 1
_SCOPE_UNIVERSE = 0
_SCOPE_NOWHERE = 255
_FLAG_DEAD = 0x1
_FLAG_ONLINK = 0x4
_FLAG_CLONED = 0x200
_RTA_DST = 1
_RTA_OIF = 4
_RTA_GATEWAY = 5
_RTA_PRIORITY = 6
_RTA_METRICS = 8
_RTA_MULTIPATH = 9
_RTA_TABLE = 15
_RTA_VIA = 18
_RTA_NH_ID = 30
_RTAX_MTU = 2


class RouteKind(Enum):
    """rtm_type, as far as it says where packets go."""

    UNICAST = 1
    LOCAL = 2
    BLACKHOLE = 6
    UNREACHABLE = 7
    PROHIBIT = 8


_KINDS = {kind.value: kind for kind in RouteKind}


@dataclass(frozen=True, slots=True)
class RouteRow:
    """A route of the kernel. `gateway` None: on-link; `metric` lowest is best.

    Of several next hops `device` and `gateway` are the first's, and `more` the other gateways on that device.
    """

    prefix: Network
    kind: RouteKind
    device: str | None
    gateway: Address | None
    table: int
    protocol: int
    metric: int
    nexthop_id: int = 0  # the kernel's next hop object, 0: none (ip-nexthop(8))
    more: tuple[Address, ...] = ()


class Shortcuts:
    """Installs and removes routes into tunnels of ours, beside those of routing. Each call is done when it returns."""

    def __init__(self, devices: Iterable[str]) -> None:
        """`devices` are the tunnels: another network of this router has shortcuts too."""
        self._requests = Requests()
        self._devices = frozenset(devices)
        self._installed: dict[Network, tuple[Address, str, int | None]] = {}

    def close(self) -> None:
        self._requests.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def install(self, prefix: Network, gateway: Address, device: str, mtu_octets: int | None = None) -> None:
        """`prefix via gateway dev device onlink`, in place of our shortcut that is there. Raises Fault.

        Never with REPLACE, which would take a route of the same metric whosever it is.
        """
        self._install(prefix, gateway, device, mtu_octets)
        self._installed[prefix] = gateway, device, mtu_octets

    def mend(self) -> int:
        """What was installed and somebody has taken away comes back; how many. Raises Fault."""
        there = {row.prefix for row in self.ours()} if self._installed else set()
        missing = self._installed.keys() - there
        for prefix in missing:
            self._install(prefix, *self._installed[prefix])
        return len(missing)

    def _install(self, prefix: Network, gateway: Address, device: str, mtu_octets: int | None) -> None:
        payload = _of_shortcut(prefix, _SCOPE_UNIVERSE, _RTN_UNICAST, _FLAG_ONLINK, device)
        payload += attribute(_RTA_GATEWAY, gateway.packed)
        if mtu_octets is not None:
            payload += attribute(_RTA_METRICS, attribute(_RTAX_MTU, struct.pack("=I", mtu_octets)))
        where = f"route {prefix} via {gateway} dev {device}"
        try:
            self._requests.ask(where, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, payload)
        except NetlinkRefusal as refusal:
            if refusal.errno != errno.EEXIST:
                raise
            for tunnel in self._devices:
                self._remove(prefix, tunnel)
            self._install_alone(where, payload)

    def _install_alone(self, where: str, payload: bytes) -> None:
        try:
            self._requests.ask(where, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, payload)
        except NetlinkRefusal as refusal:
            if refusal.errno != errno.EEXIST:
                raise
            what = f"somebody else's route has this prefix with the metric {SHORTCUT_METRIC}"
            raise Fault(where, what, "give that route another metric") from refusal

    def remove(self, prefix: Network, device: str) -> None:
        """Take the shortcut of this prefix away; one that is not there is no fault. Raises Fault."""
        self._installed.pop(prefix, None)
        self._remove(prefix, device)

    def _remove(self, prefix: Network, device: str) -> None:
        payload = _of_shortcut(prefix, _SCOPE_NOWHERE, 0, 0, device)
        self._requests.take(f"route {prefix} dev {device}", RTM_DELROUTE, payload)

    def ours(self) -> tuple[RouteRow, ...]:
        """The shortcuts into our tunnels, both families."""
        rows = (row for family in (_AF_INET, _AF_INET6) for row in dump(self._requests, family, TABLE_MAIN))
        return tuple(row for row in rows if is_shortcut(row) and row.device in self._devices)


def is_shortcut(row: RouteRow) -> bool:
    """Whether it is one of ours, of whichever network."""
    return row.protocol == SHORTCUT_PROTOCOL and row.table == TABLE_MAIN


def _of_shortcut(prefix: Network, scope: int, kind: int, flags: int, device: str) -> bytes:
    head = _RTMSG.pack(
        family_of(prefix.version), prefix.prefixlen, 0, 0, TABLE_MAIN, SHORTCUT_PROTOCOL, scope, kind, flags
    )
    head += attribute(_RTA_DST, prefix.network_address.packed)
    head += attribute(_RTA_OIF, struct.pack("=i", device_index(device)))
    return head + attribute(_RTA_PRIORITY, struct.pack("=I", SHORTCUT_METRIC))


def dump(requests: Requests, family: int, table: int) -> tuple[RouteRow, ...]:
    """The routes of one table; a table that does not exist has none."""
    payload = _RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0) + attribute(_RTA_TABLE, struct.pack("=I", table))
    try:
        found = requests.dump(f"routes of table {table}", RTM_GETROUTE, payload)
    except NetlinkRefusal as refusal:
        if refusal.errno == errno.ENOENT:
            return ()
        raise
    rows = (decode(message) for message in found)
    # A kernel before 4.20 does not filter.
    return tuple(row for row in rows if row is not None and row.table == table)


def decode(message: Message) -> RouteRow | None:
    """A route message as a row; None for broadcast, multicast and cached ones, dead ones, and other families."""
    family, length, _source, _tos, table, protocol, _scope, kind_number, flags = _RTMSG.unpack_from(message.payload)
    kind = _KINDS.get(kind_number)
    if kind is None or flags & (_FLAG_CLONED | _FLAG_DEAD) or family not in (_AF_INET, _AF_INET6):
        return None
    values = attributes(message.payload, _RTMSG.size)
    (index, gateway), *others = _next_hops(values)
    return RouteRow(
        prefix=_prefix(family, length, values.get(_RTA_DST)),
        kind=kind,
        device=device_name(index) if index else None,
        gateway=gateway,
        table=number_of(values.get(_RTA_TABLE), table),
        protocol=protocol,
        metric=number_of(values.get(_RTA_PRIORITY), 0),
        nexthop_id=number_of(values.get(_RTA_NH_ID), 0),
        more=tuple(other for beside, other in others if beside == index and other is not None),
    )


def number_of(octets: bytes | None, otherwise: int = 0) -> int:
    """An attribute of 32 bits."""
    return int(struct.unpack("=I", octets)[0]) if octets is not None and len(octets) == 4 else otherwise


def _prefix(family: int, length: int, destination: bytes | None) -> Network:
    if family == _AF_INET:
        return IPv4Network((IPv4Address(destination or bytes(4)), length), strict=False)
    return IPv6Network((IPv6Address(destination or bytes(16)), length), strict=False)


def _next_hops(values: dict[int, bytes]) -> list[tuple[int, Address | None]]:
    """ifindex (0: none) and gateway of each, at least one; that with the lowest index is first."""
    hops = values.get(_RTA_MULTIPATH, b"")
    found = []
    while len(hops) >= _RTNH.size:
        length, _flags, _hops, index = _RTNH.unpack_from(hops)
        if length < _RTNH.size:
            break
        found.append((index, _gateway(attributes(hops[:length], _RTNH.size))))
        hops = hops[length + 3 & ~3 :]
    return found or [(number_of(values.get(_RTA_OIF), 0), _gateway(values))]


def _gateway(values: dict[int, bytes]) -> Address | None:
    if _RTA_GATEWAY in values:
        return address_of(values[_RTA_GATEWAY])
    if _RTA_VIA in values:  # IPv4 by an IPv6 next hop, RFC 8950: a family, then the address
        return address_of(values[_RTA_VIA][2:])
    return None
