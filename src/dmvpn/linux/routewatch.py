"""The best route of every prefix, shortcuts left out, and the links: told as they change.

The kernel does not announce everything: IPv4 routes vanish without a word when their device goes down or their source
address goes (fib_flush), and so do routes of a removed next hop object. At such moments, and after an overflow, the
tables are read again and the difference is told.
"""

import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from dmvpn.linux import routes
from dmvpn.linux.netlink import NLM_F_REPLACE, Events, Message, Requests, attributes
from dmvpn.linux.routes import RTM_DELROUTE, RTM_NEWROUTE, TABLE_LOCAL, TABLE_MAIN, Network, RouteRow

_RTM_NEWLINK = 16
_RTM_DELLINK = 17
_RTM_GETLINK = 18
_RTM_DELADDR = 21
_RTM_DELNEXTHOP = 105
_RTNLGRP_LINK = 1
_RTNLGRP_IPV4_IFADDR = 5
_RTNLGRP_IPV4_ROUTE = 7
_RTNLGRP_IPV6_IFADDR = 9
_RTNLGRP_IPV6_ROUTE = 11
_RTNLGRP_NEXTHOP = 32
_IFINFOMSG = struct.Struct("=BxHiII")
_NHMSG_SIZE = 8
_NHA_ID = 1
_IFLA_IFNAME = 3
_IFLA_MTU = 4
_IFF_UP = 0x1

OSPF_ROUTES, RIP_ROUTES = 188, 189  # OSPF's of either version; linux/rtnetlink.h
RIPNG_ROUTES = 190  # zebra's own number, zebra/rt_netlink.h
ROUTING_PROTOCOLS = frozenset((186, OSPF_ROUTES, RIP_ROUTES, RIPNG_ROUTES))  # the first is BGP's


@dataclass(frozen=True, slots=True)
class Link:
    """A network device. `up` is the administrator's word, not the carrier's."""

    index: int
    name: str
    up: bool
    mtu_octets: int


@dataclass(frozen=True, slots=True)
class BestRoute:
    """`row` is the best route of its prefix now."""

    row: RouteRow


@dataclass(frozen=True, slots=True)
class NoRoute:
    """No route of this prefix is left."""

    prefix: Network


@dataclass(frozen=True, slots=True)
class LinkChanged:
    """A device came, or its name, state or MTU changed."""

    link: Link


@dataclass(frozen=True, slots=True)
class LinkGone:
    link: Link


RouteEvent = BestRoute | NoRoute | LinkChanged | LinkGone


class RouteWatch:
    """Watches `tables`, the first of which wins over the next for a prefix of the same length, as the rules have it.
    What `without` is true for is passed over.

    For loop.add_reader(). start() gives what is there, read() what has changed since. `overflows` counts lost events,
    `taken` routes that were passed over and are gone.
    """

    def __init__(
        self,
        tables: tuple[int, ...] = (TABLE_LOCAL, TABLE_MAIN),
        without: Callable[[RouteRow], bool] = routes.is_shortcut,
    ) -> None:
        self._rank = {table: rank for rank, table in enumerate(tables)}
        self._without = without
        self._requests = Requests()
        self._events = Events(
            (
                _RTNLGRP_LINK,
                _RTNLGRP_IPV4_IFADDR,
                _RTNLGRP_IPV6_IFADDR,
                _RTNLGRP_IPV4_ROUTE,
                _RTNLGRP_IPV6_ROUTE,
                _RTNLGRP_NEXTHOP,
            )
        )
        self._rows: dict[Network, list[RouteRow]] = {}
        self._best: dict[Network, RouteRow] = {}
        self._links: dict[int, Link] = {}
        self.overflows = 0
        self.taken = 0

    def fileno(self) -> int:
        return self._events.fileno()

    def close(self) -> None:
        self._events.close()
        self._requests.close()

    def start(self) -> tuple[RouteEvent, ...]:
        """All links and best routes. Subscribed before the dump, so nothing falls between."""
        return self._read_again()

    def read(self) -> tuple[RouteEvent, ...]:
        """What has changed. Never waits for events; reads the tables again when it must."""
        found, overflow = self._events.read()
        self.overflows += overflow
        touched: dict[Network, None] = {}
        for message in found:
            if overflow or self._says_read_again(message):
                return self._read_again()
            self._take_route(message, touched)
        return self._settle(touched) if not overflow else self._read_again()

    def link(self, name: str) -> Link | None:
        return next((link for link in self._links.values() if link.name == name), None)

    def best(self, prefix: Network) -> RouteRow | None:
        return self._best.get(prefix)

    def learned(self) -> bool:
        """Whether a routing protocol has brought any of them."""
        return any(row.protocol in ROUTING_PROTOCOLS for row in self._best.values())

    def _says_read_again(self, message: Message) -> bool:
        if message.kind in (_RTM_NEWLINK, _RTM_DELLINK):
            link = _link_of(message)
            if link is None:
                return False
            known = self._links.get(link.index)
            # RTM_NEWLINK comes for much that does not matter here.
            return known != link if message.kind == _RTM_NEWLINK else known is not None
        if message.kind in (RTM_NEWROUTE, RTM_DELROUTE) and not message.flags & NLM_F_REPLACE:
            row = routes.decode(message)
            return row is not None and self._is_part(row, gone=message.kind == RTM_DELROUTE)
        if message.kind == _RTM_DELNEXTHOP:
            number = routes.number_of(attributes(message.payload, _NHMSG_SIZE).get(_NHA_ID))
            return any(row.nexthop_id == number for row in self._best.values())
        return message.kind == _RTM_DELADDR

    def _is_part(self, row: RouteRow, *, gone: bool) -> bool:
        """Whether it is about some of an IPv6 route's next hops, which come and go one by one and in an order that is
        not the table's.
        """
        if row.prefix.version == 4 or row.gateway is None or self._without(row):
            return False
        known = self._rows.get(row.prefix, ())
        alike = [one for one in known if (one.table, one.metric, one.protocol) == (row.table, row.metric, row.protocol)]
        return any(one != row and one.gateway is not None for one in alike) and (not gone or row not in known)

    def _take_route(self, message: Message, touched: dict[Network, None]) -> None:
        if message.kind not in (RTM_NEWROUTE, RTM_DELROUTE):
            return
        row = routes.decode(message)
        if row is None or row.table not in self._rank:
            return
        if self._without(row):
            self.taken += message.kind == RTM_DELROUTE
            return
        rows = self._rows.setdefault(row.prefix, [])
        if message.kind == RTM_DELROUTE:
            if row in rows:
                rows.remove(row)
        else:
            if message.flags & NLM_F_REPLACE:
                # A replaced route is not announced as gone; it had the same table and metric.
                rows[:] = [known for known in rows if (known.table, known.metric) != (row.table, row.metric)]
            if row not in rows:
                rows.append(row)
        touched[row.prefix] = None

    def _settle(self, touched: dict[Network, None]) -> tuple[RouteEvent, ...]:
        events: list[RouteEvent] = []
        for prefix in touched:
            rows = self._rows.get(prefix)
            if not rows:
                self._rows.pop(prefix, None)
                if self._best.pop(prefix, None) is not None:
                    events.append(NoRoute(prefix))
                continue
            best = min(rows, key=lambda row: (self._rank[row.table], row.metric))
            if self._best.get(prefix) != best:
                self._best[prefix] = best
                events.append(BestRoute(best))
        return tuple(events)

    def _read_again(self) -> tuple[RouteEvent, ...]:
        events: list[RouteEvent] = []
        links = {
            link.index: link
            for message in self._requests.dump("links", _RTM_GETLINK, _IFINFOMSG.pack(0, 0, 0, 0, 0))
            if (link := _link_of(message)) is not None
        }
        events += [LinkGone(link) for index, link in self._links.items() if index not in links]
        events += [LinkChanged(link) for index, link in links.items() if self._links.get(index) != link]
        self._links = links
        touched = dict.fromkeys(self._rows)
        self._rows = {}
        for table in self._rank:
            for family in (socket.AF_INET, socket.AF_INET6):
                for row in routes.dump(self._requests, family, table):
                    if self._without(row):
                        continue
                    self._rows.setdefault(row.prefix, []).append(row)
        touched |= dict.fromkeys(self._rows)
        return (*events, *self._settle(touched))


def _link_of(message: Message) -> Link | None:
    _family, _hardware, index, flags, _changed = _IFINFOMSG.unpack_from(message.payload)
    if _family != socket.AF_UNSPEC:  # AF_BRIDGE and others announce ports on the same group
        return None
    values = attributes(message.payload, _IFINFOMSG.size)
    name = values.get(_IFLA_IFNAME)
    if name is None:
        return None
    mtu_octets = routes.number_of(values.get(_IFLA_MTU))
    return Link(index, name.rstrip(b"\0").decode(errors="replace"), bool(flags & _IFF_UP), mtu_octets)
