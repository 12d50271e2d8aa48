"""The kernel's side of netstate: what is there, and single changes to it. rtnetlink(7), linux/if_tun.h."""

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface, ip_network
from typing import Any, Self

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from dmvpn.errors import Fault
from dmvpn.linux.netlink import NetlinkRefusal, Requests, attribute
from dmvpn.linux.netstate_facts import GRE_KEY, LinkFacts, facts_of
from dmvpn.linux.netstate_file import Address, Device, DeviceAddress, Interface, Network, Route, Rule

_CLONE_DEVICE = "/dev/net/tun"
_TUNSETIFF = 0x400454CA
_TUNSETPERSIST = 0x400454CB
_IFF_TAP_NO_PI = 0x1002
_IFF_NOARP = 0x80
_IFF_MULTICAST = 0x1000
_TOS_INHERIT = 1
_RTM_NEWLINK = 16
_RTM_SETNEIGHTBL = 67
_IFLA_AF_SPEC = 26
_INET6_ADDR_GEN_MODE = 8
_ADDR_GEN_NONE = 1
_NDTA_NAME = 1
_NDTA_PARMS = 6
_NDTPA_IFINDEX = 1
_NDTPA_APP_PROBES = 9
_NDTPA_UCAST_PROBES = 10
_NDTPA_MCAST_PROBES = 11
_IFA_F_NODAD = 0x02
_IFA_F_PERMANENT = 0x80
_IFA_F_LEASED = 0x300  # IFA_F_MANAGETEMPADDR, IFA_F_NOPREFIXROUTE: a client's, though it may have no end
_LEASED_PROTOCOLS = (9, 16)  # RTPROT_RA, RTPROT_DHCP
_FR_ACT_TO_TBL = 1
_AF = {4: 2, 6: 10}
_KINDS = {1: "unicast", 6: "blackhole", 7: "unreachable", 8: "prohibit"}
_SCOPE_NUMBERS = {"universe": 0, "link": 253, "host": 254}
_SCOPES = {number: word for word, number in _SCOPE_NUMBERS.items()}
_UNUSED = (errno.ESRCH, errno.ENOENT, errno.ENODEV, errno.EADDRNOTAVAIL)  # it is not there (any more)


class Kernel:
    """One connection to the kernel for a whole run. Every refusal is a Fault that names the object."""

    def __init__(self) -> None:
        self._route = IPRoute()
        self._requests = Requests()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._requests.close()
        self._route.close()

    # ------------------------------------------------------------ what is there

    def links(self) -> dict[str, LinkFacts]:
        found = [facts_of(message) for message in self._route.get_links()]
        return {link.name: link for link in found}

    def addresses(self) -> set[DeviceAddress]:
        names = {link.index: link.name for link in self.links().values()}
        found = set()
        for message in self._route.get_addr():
            # With a peer the address itself is IFA_LOCAL.
            text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
            if message["index"] in names:
                found.add(DeviceAddress(names[message["index"]], ip_interface(f"{text}/{message['prefixlen']}")))
        return found

    def routes(self, tables: set[int]) -> set[Route]:
        names = {link.index: link.name for link in self.links().values()}
        found = set()
        for table in tables:
            for family in _AF.values():
                for message in self._routes_of(family, table):
                    route = _route_of(message, names)
                    if route is not None:
                        found.add(route)
        return found

    def _routes_of(self, family: int, table: int) -> Iterator[Any]:
        try:
            yield from self._route.get_routes(family=family, table=table)
        except NetlinkError as error:
            if error.code != errno.ENOENT:  # a table without routes does not exist
                raise Fault(f"routes of table {table}", _words(error)) from error

    def rules(self) -> set[Rule]:
        """Rules that do nothing but look up a table."""
        found = set()
        for version, family in _AF.items():
            for message in self._route.get_rules(family=family):
                selectors = [name for name, _ in message["attrs"] if name not in _PLAIN_RULE]
                table = message.get_attr("FRA_TABLE")
                if message["action"] == _FR_ACT_TO_TBL and table is not None and not selectors:
                    specific = message.get_attr("FRA_SUPPRESS_PREFIXLEN") == 0
                    found.add(Rule(message.get_attr("FRA_PRIORITY") or 0, table, version, specific))
        return found

    # ------------------------------------------------------------ changes

    def create_tap(self, device: Device) -> None:
        """A persistent TAP, one queue, no packet information. Raises Fault with what is missing."""
        where = f"device {device.name}"
        try:
            queue = os.open(_CLONE_DEVICE, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            fix = "load the module tun, or give the container /dev/net/tun"
            raise Fault(_CLONE_DEVICE, (error.strerror or str(error)).lower(), fix) from error
        try:
            fcntl.ioctl(queue, _TUNSETIFF, struct.pack("16sH22x", device.name.encode(), _IFF_TAP_NO_PI))
            fcntl.ioctl(queue, _TUNSETPERSIST, 1)
        except OSError as error:
            fix = "run as root or with CAP_NET_ADMIN" if error.errno == errno.EPERM else ""
            raise Fault(where, f"cannot be created: {(error.strerror or str(error)).lower()}", fix) from error
        finally:
            os.close(queue)

    def create_gre(self, device: Device) -> None:
        """An mGRE device: no local address (the route to the peer gives it) and no remote one. Raises Fault."""
        self.ask(f"device {device.name}", "link", "add", ifname=device.name, **_gre_request(device))

    def _shape_gre(self, device: Device, link: LinkFacts) -> None:
        where = f"device {device.name}"
        if link.gre is None or (link.gre.key, link.gre.ttl, link.gre.tos) != (device.key, device.ttl, _TOS_INHERIT):
            # In place: neighbour entries and routes stay.
            self.ask(where, "link", "set", index=link.index, **_gre_request(device))
        # Made without ARP, since GRE knows no such questions; with it the kernel asks for next hops, and we answer.
        # Multicast is for the routing protocols: they look for the flag.
        self.ask(where, "link", "set", index=link.index, flags=_IFF_MULTICAST, change=_IFF_NOARP | _IFF_MULTICAST)

    def shape(self, device: Device, link: LinkFacts) -> None:
        """Its own settings, MTU, no address of the kernel's own making, questions for next hops, up."""
        if device.kind == "gre":
            self._shape_gre(device, link)
        elif link.mac != device.mac:
            self.ask(f"device {device.name}: MAC {device.mac}", "link", "set", index=link.index, address=device.mac)
        if link.mtu_octets != device.mtu_octets:
            self.set_mtu(link, device.mtu_octets)
        self._no_own_address(device.name, link.index)
        if device.neighbour_upcalls:
            self._ask_for_neighbours(device.name, link.index)
        if not link.up:
            self.set_up(link)

    def set_mtu(self, link: LinkFacts, mtu_octets: int) -> None:
        self.ask(f"device {link.name}: MTU {mtu_octets}", "link", "set", index=link.index, mtu=mtu_octets)

    def forget_leases(self, link: LinkFacts) -> None:
        """Take away what a client brought and left: addresses with an end, and routes that say who brought them."""
        for message in self._route.get_addr(index=link.index):
            flags = message.get_attr("IFA_FLAGS") or message["flags"]
            if flags & _IFA_F_LEASED or not flags & _IFA_F_PERMANENT:
                address = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
                row = DeviceAddress(link.name, ip_interface(f"{address}/{message['prefixlen']}"))
                self.remove_address(row, link.index)
        for message in self._route.get_routes(oif=link.index):
            route = _route_of(message, {link.index: link.name})
            if route is not None and route.protocol in _LEASED_PROTOCOLS and route.device == link.name:
                self.remove_route(route, link.index)

    def set_up(self, link: LinkFacts) -> None:
        self.ask(f"device {link.name}: up", "link", "set", index=link.index, state="up")

    def delete_link(self, link: LinkFacts) -> None:
        self.ask(f"device {link.name}", "link", "del", index=link.index)

    def add_address(self, row: DeviceAddress, index: int) -> None:
        flags = {"flags": _IFA_F_NODAD} if row.address.version == 6 else {}
        self.ask(f"address {row.address} on {row.device}", "addr", "add", **_address_of(row.address, index), **flags)

    def remove_address(self, row: DeviceAddress, index: int) -> None:
        self.ask(f"address {row.address} on {row.device}", "addr", "del", **_address_of(row.address, index))

    def add_route(self, route: Route, index: int | None) -> None:
        self.ask(_route_words(route), "route", "replace", **_route_request(route, index))

    def remove_route(self, route: Route, index: int | None) -> None:
        self.ask(_route_words(route), "route", "del", **_route_request(route, index))

    def add_rule(self, rule: Rule) -> None:
        self.ask(_rule_words(rule), "rule", "add", **_rule_request(rule))

    def remove_rule(self, rule: Rule) -> None:
        self.ask(_rule_words(rule), "rule", "del", **_rule_request(rule))

    def make_link(self, where: str, module: str, **request: Any) -> None:
        """A device of a kind that is in a module. Raises Fault, which says where to load it when it is missing."""
        try:
            self._route.link("add", **request)
        except NetlinkError as error:
            if error.code == errno.EEXIST:
                return  # loading bonding has made its first bond at once; what it has to be follows
            if error.code == errno.EOPNOTSUPP:
                fix = f"load it on the host: modprobe {module}; or give the machine a plain device of this name"
                raise Fault(where, f"this kernel has no module {module}", fix) from error
            fix = "run as root or with CAP_NET_ADMIN" if error.code == errno.EPERM else ""
            raise Fault(where, _words(error), fix) from error

    def ask(self, where: str, what: str, command: str, **request: Any) -> None:
        """One request. Raises Fault."""
        try:
            getattr(self._route, what)(command, **request)
        except NetlinkError as error:
            if command == "del" and error.code in _UNUSED:
                return
            fix = "run as root or with CAP_NET_ADMIN" if error.code == errno.EPERM else ""
            raise Fault(where, _words(error), fix) from error

    def _ask_for_neighbours(self, name: str, index: int) -> None:
        # Not by sysctl: in a container /proc/sys is read-only even with CAP_NET_ADMIN.
        parameters = b"".join(
            attribute(kind, struct.pack("=I", value))
            for kind, value in (
                (_NDTPA_IFINDEX, index),
                (_NDTPA_APP_PROBES, 1),
                (_NDTPA_MCAST_PROBES, 0),
                (_NDTPA_UCAST_PROBES, 0),
            )
        )
        for table in ("arp_cache", "ndisc_cache"):
            body = bytes(4) + attribute(_NDTA_NAME, table.encode() + b"\0") + attribute(_NDTA_PARMS, parameters)
            try:
                self._requests.ask(f"device {name}: {table}", _RTM_SETNEIGHTBL, 0, body)
            except NetlinkRefusal as refusal:
                # Without IPv6 there is no ndisc_cache, and nothing to ask.
                if table == "arp_cache" or refusal.errno != errno.ENOENT:
                    raise

    def _no_own_address(self, name: str, index: int) -> None:
        """No link-local address made from the MAC, hence no router solicitations into the cloud."""
        mode = attribute(_INET6_ADDR_GEN_MODE, bytes((_ADDR_GEN_NONE,)))
        body = struct.pack("=BxHiII", 0, 0, index, 0, 0) + attribute(_IFLA_AF_SPEC, attribute(_AF[6], mode))
        with suppress(NetlinkRefusal):  # a kernel without IPv6 has nothing to switch off
            self._requests.ask(f"device {name}", _RTM_NEWLINK, 0, body)


def _gre_request(device: Device) -> dict[str, Any]:
    keyed = {} if device.key is None else {"gre_ikey": device.key, "gre_okey": device.key}
    flags = 0 if device.key is None else GRE_KEY
    return {
        "kind": "gre",
        **keyed,
        "gre_iflags": flags,
        "gre_oflags": flags,
        "gre_ttl": device.ttl,
        "gre_tos": _TOS_INHERIT,
        "gre_pmtudisc": 1,
    }


_PLAIN_RULE = ("FRA_TABLE", "FRA_PRIORITY", "FRA_SUPPRESS_PREFIXLEN", "FRA_SUPPRESS_IFGROUP", "FRA_PROTOCOL")


def _words(error: NetlinkError) -> str:
    return str(os.strerror(error.code)).lower()


def _route_words(route: Route) -> str:
    hop = f" via {route.gateway}" if route.gateway else ""
    device = f" dev {route.device}" if route.device else ""
    kind = "" if route.kind == "unicast" else f"{route.kind} "
    return f"route {kind}{route.prefix}{hop}{device} table {route.table}"


def _rule_words(rule: Rule) -> str:
    return f"rule {rule.priority} (IPv{rule.version}) to table {rule.table}"


def _address_of(address: Interface, index: int) -> dict[str, Any]:
    family = _AF[address.version]
    return {"index": index, "address": str(address.ip), "prefixlen": address.network.prefixlen, "family": family}


def _rule_request(rule: Rule) -> dict[str, Any]:
    plain = {"priority": rule.priority, "table": rule.table, "family": _AF[rule.version]}
    return plain | ({"FRA_SUPPRESS_PREFIXLEN": 0} if rule.specific else {})


def _route_request(route: Route, index: int | None) -> dict[str, Any]:
    request: dict[str, Any] = {
        "family": _AF[route.prefix.version],
        "dst": str(route.prefix),
        "type": route.kind,
        "table": route.table,
        "proto": route.protocol,
        "scope": _SCOPE_NUMBERS[route.scope],
    }
    optional = {"oif": index, "gateway": route.gateway, "prefsrc": route.source, "priority": route.metric or None}
    for key, value in optional.items():
        if value is not None:
            request[key] = value if isinstance(value, int) else str(value)
    return request


def _route_of(message: Any, names: dict[int, str]) -> Route | None:
    """A dumped route in our words; None for one that we could not have put there (several next hops, local, ...)."""
    kind = _KINDS.get(message["type"])
    version = 6 if message["family"] == _AF[6] else 4
    if kind is None or message.get_attr("RTA_MULTIPATH") or message["scope"] not in _SCOPES:
        return None
    destination = message.get_attr("RTA_DST") or ("0.0.0.0" if version == 4 else "::")
    prefix: Network = ip_network(f"{destination}/{message['dst_len']}")
    index = message.get_attr("RTA_OIF")
    return Route(
        prefix=prefix,
        kind=kind,
        # IPv6 shows an unreachable route as leading to lo.
        device=names.get(index) if index is not None and kind == "unicast" else None,
        gateway=_maybe_address(message.get_attr("RTA_GATEWAY")),
        source=_maybe_address(message.get_attr("RTA_PREFSRC")),
        scope=_SCOPES[message["scope"]],
        metric=message.get_attr("RTA_PRIORITY") or 0,
        table=message.get_attr("RTA_TABLE") or message["table"],
        protocol=message["proto"],
    )


def _maybe_address(text: str | None) -> Address | None:
    found: IPv4Address | IPv6Address | None = ip_address(text) if text else None
    return found
