"""Routes and rules of uplinks: what should be there in, the difference to what is there out. rtnetlink(7), ip-rule(8).

Ours are known by their route protocol; in tables of ours everything is ours. Each call is done when it returns.
"""

import errno
import socket
import struct
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

from dmvpn.linux import routes
from dmvpn.linux.netlink import (
    NLM_F_CREATE,
    NLM_F_REPLACE,
    Address,
    Message,
    NetlinkRefusal,
    Requests,
    address_of,
    attribute,
    attributes,
    family_of,
)

Network = IPv4Network | IPv6Network

_RTM_NEWROUTE, _RTM_DELROUTE, _RTM_GETROUTE = 24, 25, 26
_RTM_NEWRULE, _RTM_DELRULE, _RTM_GETRULE = 32, 33, 34
_RTMSG: Final = struct.Struct("=BBBBBBBBI")
_RTNH: Final = struct.Struct("=HBBi")
_RULE: Final = struct.Struct("=BBBBBBBBI")
_UNICAST, _UNREACHABLE = 1, 7
_SCOPE_UNIVERSE, _SCOPE_LINK = 0, 253
_FLAG_ONLINK = 0x4
_FLAG_CLONED = 0x200
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC, _RTA_MULTIPATH, _RTA_TABLE = 1, 4, 5, 6, 7, 9, 15
_TO_TABLE = 1
_PROTOCOL_DHCP = 16
_FRA_SRC, _FRA_PRIORITY, _FRA_FWMARK, _FRA_SUPPRESS, _FRA_TABLE, _FRA_FWMASK, _FRA_PROTOCOL = 2, 6, 10, 14, 15, 16, 21
_NOTHING_SUPPRESSED = 0xFFFFFFFF
_NO_SUCH_FAMILY = (errno.EAFNOSUPPORT, errno.EOPNOTSUPP)
IPV6_METRIC = 1024  # what the kernel makes of 0


@dataclass(frozen=True, slots=True)
class Hop:
    """A next hop; without a gateway the destination is on the device's link, as with PPP."""

    device_index: int
    gateway: Address | None
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Way:
    """A route of a table. Without hops nothing leaves by it: unreachable."""

    table: int
    prefix: Network
    hops: tuple[Hop, ...]
    metric: int
    source: Address | None = None


@dataclass(frozen=True, slots=True)
class WayRule:
    """Look up `table`, for packets with this mark or from this source. `specific`: but not for its default route."""

    priority: int
    table: int
    version: int
    mark: int | None = None
    mask: int = 0
    source: Address | None = None
    specific: bool = False


def everything(version: int) -> Network:
    return ip_network("0.0.0.0/0" if version == 4 else "::/0")


class UplinkWays:
    """`tables` are ours alone; of main the default routes of `route_protocol` are.

    `run` are all that the network may ever have, for an uplink has another table on another device: what is left in
    one of them, and rules for it, would lead an address of ours nowhere.
    """

    def __init__(self, route_protocol: int, main: int, tables: Collection[int], run: Collection[int] = ()) -> None:
        self._requests = Requests()
        self._route_protocol = route_protocol
        self._main = main
        self._tables = frozenset(tables)
        self._run = frozenset(run) | self._tables
        self._is_swept = not self._run - self._tables

    def close(self) -> None:
        self._requests.close()

    def bring(self, wanted: Iterable[Way]) -> bool:
        """Make main's default routes of ours, and all of our tables, be these. Whether anything changed.

        What is new is there before what is old goes. Raises NetlinkRefusal for the first that the kernel refuses; the
        others are done.
        """
        ways = tuple(dict.fromkeys(map(_settled, wanted)))
        present = self._present()
        refusals: list[NetlinkRefusal] = []
        new = [way for way in ways if way not in present]
        # What is on link first, so that gateways can be reached.
        for way in sorted(new, key=lambda way: any(hop.gateway for hop in way.hops)):
            try:
                self._requests.ask(_words(way), _RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, self._request(way))
            except NetlinkRefusal as refusal:
                refusals.append(refusal)
        # A replaced one had the same table, prefix and metric. IPv6 knows several at once: there it goes by its hops.
        kept = {_slot(way) for way in ways}
        gone = [way for way in present if way not in ways and (way.prefix.version == 6 or _slot(way) not in kept)]
        for way in gone:
            self._remove(way, refusals)
        if not self._is_swept:
            self._sweep(self._run - self._tables, refusals)
            self._is_swept = not refusals
        if refusals:
            raise refusals[0]
        return bool(new or gone)

    def withdraw(self, version: int, device_index: int, gateway: Address | None, metric: int, protocol: int) -> None:
        """Take a default route of main away that somebody else put there; one that is not there is no fault."""
        way = Way(self._main, everything(version), (Hop(device_index, gateway),), metric)
        self._requests.take(_words(way), _RTM_DELROUTE, self._request(way, protocol=protocol))

    def rule(self, wanted: Iterable[WayRule]) -> None:
        """Make the rules be these: others that look up tables of ours, or of our run, go, all else stays. Raises."""
        rules = tuple(dict.fromkeys(wanted))
        present = self._rules()
        for rule in rules:
            if rule not in present:
                try:
                    self._requests.ask(_rule_words(rule), _RTM_NEWRULE, NLM_F_CREATE, self._rule_request(rule))
                except NetlinkRefusal as refusal:
                    if rule.version == 4 or refusal.errno not in _NO_SUCH_FAMILY:
                        raise
        for rule in present - set(rules):
            if rule.table in self._run:
                self._requests.ask(_rule_words(rule), _RTM_DELRULE, 0, self._rule_request(rule))

    def forget(self, shared_metric: int, static: Collection[tuple[int, int]], device_index: int | None = None) -> None:
        """Empty our tables and end the rules for them; what of ours is in main goes with the last of anybody's. Raises.

        Of main's default routes stay the `static` ones, by family and metric, which are somebody else's to take away.
        Others stood for a DHCP or PPP client's, and are the client's again: it brings none until its next lease. With
        `device_index` those of that device only.
        """
        self.rule(())
        refusals: list[NetlinkRefusal] = []
        self._sweep(self._run, refusals)
        left = self._rules()
        if all(rule.table == self._main for rule in left):
            for rule in left:
                self._requests.ask(_rule_words(rule), _RTM_DELRULE, 0, self._rule_request(rule))
            for way in self._defaults():
                if way.metric == shared_metric:
                    self._remove(way, refusals)
                elif (way.prefix.version, way.metric) not in static and device_index in (None, *_devices(way)):
                    self._hand_back(way, refusals)
        if refusals:
            raise refusals[0]

    def _sweep(self, tables: Collection[int], refusals: list[NetlinkRefusal]) -> None:
        """Empty these tables, each of which may be there or not: one look at all that there are."""
        for family in (socket.AF_INET, socket.AF_INET6):
            for way in self._of_tables(family, 0):
                if way.table in tables:
                    self._remove(way, refusals)

    def _hand_back(self, way: Way, refusals: list[NetlinkRefusal]) -> None:
        try:
            theirs = self._request(way, protocol=_PROTOCOL_DHCP)
            self._requests.ask(_words(way), _RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, theirs)
        except NetlinkRefusal as refusal:
            refusals.append(refusal)

    # ------------------------------------------------------------ what is there

    def _present(self) -> tuple[Way, ...]:
        found: list[Way] = []
        for family in (socket.AF_INET, socket.AF_INET6):
            for table in (self._main, *sorted(self._tables)):
                found += self._of_tables(family, table)
        return tuple(found)

    def _defaults(self) -> tuple[Way, ...]:
        return tuple(way for family in (socket.AF_INET, socket.AF_INET6) for way in self._of_tables(family, self._main))

    def _of_tables(self, family: int, table: int) -> list[Way]:
        """Of one table, or with 0 of all."""
        payload = _RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0) + attribute(_RTA_TABLE, struct.pack("=I", table))
        try:
            messages = self._requests.dump(f"routes of table {table or 'any'}", _RTM_GETROUTE, payload)
        except NetlinkRefusal as refusal:
            if refusal.errno in (errno.ENOENT, *_NO_SUCH_FAMILY):
                return []
            raise
        ways = [way for message in messages if (way := self._decoded(message)) is not None]
        return [way for way in ways if table in (0, way.table)]

    def _decoded(self, message: Message) -> Way | None:
        family, length, _source, _tos, table, protocol, _scope, kind, flags = _RTMSG.unpack_from(message.payload)
        values = attributes(message.payload, _RTMSG.size)
        table = routes.number_of(values.get(_RTA_TABLE), table)
        if flags & _FLAG_CLONED or kind not in (_UNICAST, _UNREACHABLE):
            return None
        if table == self._main and (length or protocol != self._route_protocol):
            return None
        zero = bytes(4 if family == socket.AF_INET else 16)
        destination = address_of(values.get(_RTA_DST, zero))
        return Way(
            table=table,
            prefix=ip_network(f"{destination}/{length}", strict=False),
            hops=() if kind == _UNREACHABLE else _hops(values),
            metric=routes.number_of(values.get(_RTA_PRIORITY), 0),
            source=address_of(values[_RTA_PREFSRC]) if _RTA_PREFSRC in values else None,
        )

    def _rules(self) -> set[WayRule]:
        found = set()
        for version in (4, 6):
            payload = _RULE.pack(family_of(version), 0, 0, 0, 0, 0, 0, 0, 0)
            try:
                messages = self._requests.dump("rules", _RTM_GETRULE, payload)
            except NetlinkRefusal as refusal:
                if refusal.errno in _NO_SUCH_FAMILY:
                    continue
                raise
            for message in messages:
                head = _RULE.unpack_from(message.payload)
                values = attributes(message.payload, _RULE.size)
                if head[7] != _TO_TABLE or values.get(_FRA_PROTOCOL) != bytes((self._route_protocol,)):
                    continue
                suppressed = routes.number_of(values.get(_FRA_SUPPRESS), _NOTHING_SUPPRESSED)
                found.add(
                    WayRule(
                        priority=routes.number_of(values.get(_FRA_PRIORITY), 0),
                        table=routes.number_of(values.get(_FRA_TABLE), head[4]),
                        version=version,
                        mark=routes.number_of(values[_FRA_FWMARK], 0) if _FRA_FWMARK in values else None,
                        mask=routes.number_of(values.get(_FRA_FWMASK), 0) if _FRA_FWMARK in values else 0,
                        source=address_of(values[_FRA_SRC]) if _FRA_SRC in values else None,
                        specific=suppressed == 0,
                    )
                )
        return found

    # ------------------------------------------------------------ requests

    def _remove(self, way: Way, refusals: list[NetlinkRefusal]) -> None:
        try:
            self._requests.take(_words(way), _RTM_DELROUTE, self._request(way))
        except NetlinkRefusal as refusal:
            refusals.append(refusal)

    def _request(self, way: Way, protocol: int | None = None) -> bytes:
        kind = _UNICAST if way.hops else _UNREACHABLE
        on_link = bool(way.hops) and all(hop.gateway is None for hop in way.hops)
        scope = _SCOPE_LINK if on_link and way.prefix.version == 4 else _SCOPE_UNIVERSE
        # A gateway may be outside of the uplink's own prefix, as some ISPs have it.
        flags = _FLAG_ONLINK if len(way.hops) == 1 and way.hops[0].gateway is not None else 0
        head = _RTMSG.pack(
            family_of(way.prefix.version), way.prefix.prefixlen, 0, 0,
            way.table if way.table < 256 else 0, protocol or self._route_protocol, scope, kind, flags,
        )  # fmt: skip
        payload = head
        if way.prefix.prefixlen:
            payload += attribute(_RTA_DST, way.prefix.network_address.packed)
        payload += attribute(_RTA_TABLE, struct.pack("=I", way.table))
        if way.metric:
            payload += attribute(_RTA_PRIORITY, struct.pack("=I", way.metric))
        if way.source is not None:
            payload += attribute(_RTA_PREFSRC, way.source.packed)
        if len(way.hops) == 1:
            payload += attribute(_RTA_OIF, struct.pack("=i", way.hops[0].device_index))
            if way.hops[0].gateway is not None:
                payload += attribute(_RTA_GATEWAY, way.hops[0].gateway.packed)
        elif way.hops:
            payload += attribute(_RTA_MULTIPATH, b"".join(map(_next_hop, way.hops)))
        return payload

    def _rule_request(self, rule: WayRule) -> bytes:
        length = rule.source.max_prefixlen if rule.source is not None else 0
        head = _RULE.pack(
            family_of(rule.version), 0, length, 0, rule.table if rule.table < 256 else 0, 0, 0, _TO_TABLE, 0
        )
        payload = head + attribute(_FRA_PRIORITY, struct.pack("=I", rule.priority))
        payload += attribute(_FRA_TABLE, struct.pack("=I", rule.table))
        payload += attribute(_FRA_PROTOCOL, bytes((self._route_protocol,)))
        if rule.source is not None:
            payload += attribute(_FRA_SRC, rule.source.packed)
        if rule.mark is not None:
            payload += attribute(_FRA_FWMARK, struct.pack("=I", rule.mark))
            payload += attribute(_FRA_FWMASK, struct.pack("=I", rule.mask))
        if rule.specific:
            payload += attribute(_FRA_SUPPRESS, struct.pack("=I", 0))
        return payload


def _next_hop(hop: Hop) -> bytes:
    gateway = b"" if hop.gateway is None else attribute(_RTA_GATEWAY, hop.gateway.packed)
    flags = 0 if hop.gateway is None else _FLAG_ONLINK
    return _RTNH.pack(_RTNH.size + len(gateway), flags, hop.weight - 1, hop.device_index) + gateway


def _hops(values: dict[int, bytes]) -> tuple[Hop, ...]:
    if _RTA_MULTIPATH not in values:
        gateway = address_of(values[_RTA_GATEWAY]) if _RTA_GATEWAY in values else None
        return (Hop(routes.number_of(values.get(_RTA_OIF), 0), gateway),)
    octets, hops = values[_RTA_MULTIPATH], []
    while len(octets) >= _RTNH.size:
        length, _flags, weight, index = _RTNH.unpack_from(octets)
        inner = attributes(octets[:length], _RTNH.size)
        gateway = address_of(inner[_RTA_GATEWAY]) if _RTA_GATEWAY in inner else None
        hops.append(Hop(index, gateway, weight + 1))
        octets = octets[(length + 3) & ~3 :] if length >= _RTNH.size else b""
    return tuple(hops)


def _devices(way: Way) -> tuple[int, ...]:
    return tuple(hop.device_index for hop in way.hops)


def _settled(way: Way) -> Way:
    """As the kernel will show it."""
    metric = way.metric or (IPV6_METRIC if way.prefix.version == 6 else 0)
    hops = way.hops if len(way.hops) > 1 else tuple(Hop(hop.device_index, hop.gateway) for hop in way.hops)
    return Way(way.table, way.prefix, hops, metric, way.source)


def _slot(way: Way) -> tuple[object, ...]:
    return (way.table, way.prefix, way.metric)


def _words(way: Way) -> str:
    return f"route {way.prefix} of an uplink, table {way.table}"


def _rule_words(rule: WayRule) -> str:
    return f"rule {rule.priority} (IPv{rule.version}) of an uplink, table {rule.table}"
