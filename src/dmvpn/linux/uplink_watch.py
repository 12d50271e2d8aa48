"""What the kernel says of uplinks' devices: carrier, addresses, and the default routes that others brought there.

Read anew at every change of a link, an address or a default route: an uplink has few of each. rtnetlink(7), linux/if.h.
"""

import socket
import struct
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_interface

from dmvpn.linux import routes
from dmvpn.linux.netlink import Events, Message, Requests, address_of, attributes
from dmvpn.linux.port_watch import Switches
from dmvpn.linux.routes import RTM_DELROUTE, RTM_NEWROUTE, TABLE_MAIN, RouteKind, RouteRow

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface

_RTM_NEWLINK = 16
_RTM_DELLINK = 17
_RTM_GETLINK = 18
_RTM_NEWADDR = 20
_RTM_DELADDR = 21
_RTM_GETADDR = 22
_RTM_DELRULE = 33
_RTNLGRP_LINK = 1
_RTNLGRP_IPV4_IFADDR = 5
_RTNLGRP_IPV4_ROUTE = 7
_RTNLGRP_IPV6_IFADDR = 9
_RTNLGRP_IPV4_RULE = 8
_RTNLGRP_IPV6_ROUTE = 11
_RTNLGRP_IPV6_RULE = 19
_IFINFOMSG = struct.Struct("=BxHiII")
_IFADDRMSG = struct.Struct("=BBBBI")
_RTMSG = struct.Struct("=BBBBBBBBI")
_IFLA_IFNAME = 3
_IFA_ADDRESS = 1
_IFA_LOCAL = 2
_IFA_FLAGS = 8
_IFF_UP = 0x1
_IFF_LOWER_UP = 0x10000
_IFA_F_TEMPORARY = 0x01  # for IPv6; an IPv4 address that is not the first of its prefix has the same bit
_IFA_F_DADFAILED = 0x08
_IFA_F_DEPRECATED = 0x20
_IFA_F_TENTATIVE = 0x40
_UNUSABLE = _IFA_F_DADFAILED | _IFA_F_DEPRECATED | _IFA_F_TENTATIVE
_SCOPE_UNIVERSE = 0


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """One device. `index` changes when it vanished and returned. `defaults` are main's, one next hop each."""

    name: str
    index: int
    up: bool
    carrier: bool
    addresses: tuple[Interface, ...]  # global ones that may be used
    defaults: tuple[RouteRow, ...]
    temporary: frozenset[Address] = frozenset()  # of the addresses: made to be forgotten, RFC 8981
    turned_on: int = 0  # how often it was switched off and on since we look


class UplinkWatch:
    """Watches devices by name. For loop.add_reader()."""

    def __init__(self, devices: Collection[str]) -> None:
        self._devices = frozenset(devices)
        self._requests = Requests()
        groups = (
            _RTNLGRP_LINK,
            _RTNLGRP_IPV4_IFADDR,
            _RTNLGRP_IPV6_IFADDR,
            _RTNLGRP_IPV4_ROUTE,
            _RTNLGRP_IPV6_ROUTE,
            _RTNLGRP_IPV4_RULE,
            _RTNLGRP_IPV6_RULE,
        )
        self._events = Events(groups)
        self._indexes: frozenset[int] = frozenset()
        self._switches = Switches()
        self._turned_on: Counter[int] = Counter()

    def fileno(self) -> int:
        return self._events.fileno()

    def close(self) -> None:
        self._events.close()
        self._requests.close()

    def changed(self) -> bool:
        """Whether something that concerns these devices has happened. Never waits."""
        found, overflow = self._events.read()
        self._turned_on.update(self._switches.turned_on(found))
        if overflow:  # any of them may have been off and on meanwhile
            self._turned_on.update(self._indexes)
        return overflow or any([self._concerns(message) for message in found])

    def _concerns(self, message: Message) -> bool:
        match message.kind:
            case kind if kind in (_RTM_NEWLINK, _RTM_DELLINK):
                name = attributes(message.payload, _IFINFOMSG.size).get(_IFLA_IFNAME, b"")
                index = _IFINFOMSG.unpack_from(message.payload)[2]
                return index in self._indexes or name.rstrip(b"\0").decode(errors="replace") in self._devices
            case kind if kind in (_RTM_NEWADDR, _RTM_DELADDR):
                return _IFADDRMSG.unpack_from(message.payload)[4] in self._indexes
            case kind if kind in (RTM_NEWROUTE, RTM_DELROUTE):
                # Of main's thousands only the default ones matter; a table of ours may have been touched too.
                return int(_RTMSG.unpack_from(message.payload)[1]) == 0
        # A rule that somebody takes away, all at once with `ip rule flush`, may be one of ours.
        return message.kind == _RTM_DELRULE

    def look(self) -> dict[str, DeviceFacts]:
        """What is there now, by name; a device that is not there is left out. Raises Fault."""
        links = {}
        for message in self._requests.dump("links", _RTM_GETLINK, _IFINFOMSG.pack(0, 0, 0, 0, 0)):
            _family, _type, index, flags, _change = _IFINFOMSG.unpack_from(message.payload)
            text = attributes(message.payload, _IFINFOMSG.size).get(_IFLA_IFNAME, b"")
            name = text.rstrip(b"\0").decode(errors="replace")
            if name in self._devices:
                links[index] = (name, flags)
        self._indexes = frozenset(links)
        self._switches.off |= {index for index, (_name, flags) in links.items() if not flags & _IFF_UP}
        self._turned_on = Counter({index: times for index, times in self._turned_on.items() if index in links})
        addresses = self._addresses(frozenset(links)) if links else {}
        defaults = self._defaults() if links else ()
        return {
            name: DeviceFacts(
                name=name,
                index=index,
                up=bool(flags & _IFF_UP),
                carrier=bool(flags & _IFF_LOWER_UP),
                addresses=tuple(addresses.get(index, {})),
                defaults=tuple(row for row in defaults if row.device == name),
                temporary=frozenset(one.ip for one, is_temporary in addresses.get(index, {}).items() if is_temporary),
                turned_on=self._turned_on[index],
            )
            for index, (name, flags) in links.items()
        }

    def _addresses(self, indexes: frozenset[int]) -> dict[int, dict[Interface, bool]]:
        """By device, in the kernel's order; whether it is a temporary one."""
        found: dict[int, dict[Interface, bool]] = {}
        for message in self._requests.dump("addresses", _RTM_GETADDR, _IFADDRMSG.pack(0, 0, 0, 0, 0)):
            _family, length, flags, scope, index = _IFADDRMSG.unpack_from(message.payload)
            if index not in indexes or scope != _SCOPE_UNIVERSE:
                continue
            values = attributes(message.payload, _IFADDRMSG.size)
            flags = routes.number_of(values.get(_IFA_FLAGS), flags)
            if flags & _UNUSABLE:
                continue
            # With a peer (PPP) the own address is IFA_LOCAL.
            address = address_of(values.get(_IFA_LOCAL, values.get(_IFA_ADDRESS, b"")))
            if address is not None:
                is_temporary = address.version == 6 and bool(flags & _IFA_F_TEMPORARY)
                found.setdefault(index, {})[ip_interface(f"{address}/{length}")] = is_temporary
        return found

    def _defaults(self) -> tuple[RouteRow, ...]:
        rows = [row for family in (socket.AF_INET, socket.AF_INET6) for row in self._main(family)]
        return tuple(row for row in rows if row.prefix.prefixlen == 0 and row.kind is RouteKind.UNICAST)

    def _main(self, family: int) -> tuple[RouteRow, ...]:
        return routes.dump(self._requests, family, TABLE_MAIN)
