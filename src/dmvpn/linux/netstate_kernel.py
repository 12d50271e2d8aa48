"""The kernel's side of netstate: what is there, and single changes to it. rtnetlink(7), linux/if_tun.h."""

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any, Self

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from dmvpn.errors import Fault
from dmvpn.linux.netlink import NetlinkRefusal, Requests, attribute
from dmvpn.linux.netstate_file import Address, Device, DeviceAddress, Interface, Network, Route, Rule

_CLONE_DEVICE = "/dev/net/tun"
_TUNSETIFF = 0x400454CA
_TUNSETPERSIST = 0x400454CB
_IFF_TAP_NO_PI = 0x1002
_IFF_UP = 0x1
_IFF_NOARP = 0x80
_IFF_MULTICAST = 0x1000
_GRE_KEY = 0x2000
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
_FR_ACT_TO_TBL = 1
_AF = {4: 2, 6: 10}
_KINDS = {1: "unicast", 6: "blackhole", 7: "unreachable", 8: "prohibit"}
_KIND_NUMBERS = {word: number for number, word in _KINDS.items()}
_SCOPE_NUMBERS = {"universe": 0, "link": 253, "host": 254}
_SCOPES = {number: word for word, number in _SCOPE_NUMBERS.items()}
_UNUSED = (errno.ESRCH, errno.ENOENT, errno.ENODEV, errno.EADDRNOTAVAIL)  # it is not there (any more)


@dataclass(frozen=True, slots=True)
class GreFacts:
    """What an mGRE device of ours is made of. `fixed` are a local or remote address, and both keys unlike: not ours."""

    key: int | None
    ttl: int
    tos: int
    fixed: bool
    arp: bool


@dataclass(frozen=True, slots=True)
class LinkFacts:
    index: int
    name: str
    kind: str  # "tun" for a TAP and a TUN both, "" for hardware and lo
    mac: str
    mtu_octets: int
    up: bool
    gre: GreFacts | None = None


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
        found = {}
        for message in self._route.get_links():
            name = message.get_attr("IFLA_IFNAME")
            found[name] = LinkFacts(
                index=message["index"],
                name=name,
                kind=message.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") or "",
                mac=message.get_attr("IFLA_ADDRESS") or "",
                mtu_octets=message.get_attr("IFLA_MTU"),
                up=bool(message["flags"] & _IFF_UP),
                gre=_gre_of(message),
            )
        return found

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
                    found.add(Rule(message.get_attr("FRA_PRIORITY") or 0, table, version))
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
        self._ask(f"device {device.name}", "link", "add", ifname=device.name, **_gre_request(device))

    def _shape_gre(self, device: Device, link: LinkFacts) -> None:
        where = f"device {device.name}"
        if link.gre is None or (link.gre.key, link.gre.ttl, link.gre.tos) != (device.key, device.ttl, _TOS_INHERIT):
            # In place: neighbour entries and routes stay.
            self._ask(where, "link", "set", index=link.index, **_gre_request(device))
        # Made without ARP, since GRE knows no such questions; with it the kernel asks for next hops, and we answer.
        # Multicast is for the routing protocols: they look for the flag.
        self._ask(where, "link", "set", index=link.index, flags=_IFF_MULTICAST, change=_IFF_NOARP | _IFF_MULTICAST)

    def shape(self, device: Device, link: LinkFacts) -> None:
        """Its own settings, MTU, no address of the kernel's own making, questions for next hops, up."""
        if device.kind == "gre":
            self._shape_gre(device, link)
        elif link.mac != device.mac:
            self._ask(f"device {device.name}: MAC {device.mac}", "link", "set", index=link.index, address=device.mac)
        if link.mtu_octets != device.mtu_octets:
            where = f"device {device.name}: MTU {device.mtu_octets}"
            self._ask(where, "link", "set", index=link.index, mtu=device.mtu_octets)
        self._no_own_address(device.name, link.index)
        if device.neighbour_upcalls:
            self._ask_for_neighbours(device.name, link.index)
        if not link.up:
            self.set_up(link)

    def set_up(self, link: LinkFacts) -> None:
        self._ask(f"device {link.name}: up", "link", "set", index=link.index, state="up")

    def delete_link(self, link: LinkFacts) -> None:
        self._ask(f"device {link.name}", "link", "del", index=link.index)

    def add_address(self, row: DeviceAddress, index: int) -> None:
        flags = {"flags": _IFA_F_NODAD} if row.address.version == 6 else {}
        self._ask(f"address {row.address} on {row.device}", "addr", "add", **_address_of(row.address, index), **flags)

    def remove_address(self, row: DeviceAddress, index: int) -> None:
        self._ask(f"address {row.address} on {row.device}", "addr", "del", **_address_of(row.address, index))

    def add_route(self, route: Route, index: int | None) -> None:
        self._ask(_route_words(route), "route", "replace", **_route_request(route, index))

    def remove_route(self, route: Route, index: int | None) -> None:
        self._ask(_route_words(route), "route", "del", **_route_request(route, index))

    def add_rule(self, rule: Rule) -> None:
        self._ask(_rule_words(rule), "rule", "add", **_rule_request(rule))

    def remove_rule(self, rule: Rule) -> None:
        self._ask(_rule_words(rule), "rule", "del", **_rule_request(rule))

    def _ask(self, where: str, what: str, command: str, **request: Any) -> None:
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
    flags = 0 if device.key is None else _GRE_KEY
    return {
        "kind": "gre",
        **keyed,
        "gre_iflags": flags,
        "gre_oflags": flags,
        "gre_ttl": device.ttl,
        "gre_tos": _TOS_INHERIT,
        "gre_pmtudisc": 1,
    }


def _gre_of(message: Any) -> GreFacts | None:
    if message.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") != "gre":
        return None
    data = message.get_nested("IFLA_LINKINFO", "IFLA_INFO_DATA")
    into, out = ((data.get_attr(f"IFLA_GRE_{way}FLAGS") or 0) & _GRE_KEY for way in "IO")
    key, other = ((data.get_attr(f"IFLA_GRE_{way}KEY") or 0) for way in "IO")
    ends = [data.get_attr(f"IFLA_GRE_{end}") or "0.0.0.0" for end in ("LOCAL", "REMOTE")]
    return GreFacts(
        key=key if into else None,
        ttl=data.get_attr("IFLA_GRE_TTL") or 0,
        tos=data.get_attr("IFLA_GRE_TOS") or 0,
        fixed=ends != ["0.0.0.0", "0.0.0.0"] or (into, key) != (out, other),
        arp=not message["flags"] & _IFF_NOARP,
    )


_PLAIN_RULE = ("FRA_TABLE", "FRA_PRIORITY", "FRA_SUPPRESS_PREFIXLEN", "FRA_SUPPRESS_IFGROUP", "FRA_PROTOCOL")


def sysctl_path(name: str) -> Path:
    """sysctl(8): dots separate; a slash stands for a dot within a device's name."""
    return Path("/proc/sys") / name.translate(str.maketrans("./", "/."))


def sysctl_value(name: str) -> str | None:
    """The value now, white space made even; None when there is no such setting (yet)."""
    try:
        return " ".join(sysctl_path(name).read_text().split())
    except OSError:
        return None


@contextmanager
def sysctl_faults(name: str, value: str) -> Iterator[None]:
    """A refusal as a Fault that says how to set it from outside."""
    try:
        yield
    except OSError as error:
        fix = (
            f"set {name}={value} where this container is started" if error.errno in (errno.EROFS, errno.EACCES) else ""
        )
        raise Fault(f"sysctl {name}", f"cannot be set to {value}: {(error.strerror or '').lower()}", fix) from error


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
    return {"priority": rule.priority, "table": rule.table, "family": _AF[rule.version]}


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
