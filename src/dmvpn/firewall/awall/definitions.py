"""What awall's files define by name: zones, services, ipsets, logging classes, limits; each read when it is used."""

import re

from dmvpn.firewall.awall.attributes import HELPERS
from dmvpn.firewall.awall.builtin import PROTOCOLS, SERVICES, WITH_HELPERS
from dmvpn.firewall.awall.document import Member, Node, Place, Report, quoted
from dmvpn.firewall.awall.members import DEVICE, LONGEST_DEVICE, NAME, Members
from dmvpn.firewall.awall.policies import Sections
from dmvpn.firewall.awall.variables import Variables
from dmvpn.firewall.awall.wording import article, instead
from dmvpn.firewall.policy import FIREWALL, AddressSet, Log, Service, Traffic, Zone

FAMILIES = {"inet": 4, "inet6": 6}
ICMP = {1: 4, 58: 6}
WITH_PORTS = (6, 17)
_LEVELS = ("emerg", "alert", "crit", "err", "warn", "notice", "info", "debug")
LEVELS: dict[str, str] = {
    **{str(number): word for number, word in enumerate(_LEVELS)},
    **{word: word for word in _LEVELS},
    "error": "err",
    "warning": "warn",
    "panic": "emerg",
}
PREFIX = re.compile(r"[A-Za-z0-9 _.,:;/()=<>\[\]+-]{1,28}")  # iptables cuts longer ones
MOST_MEMBERS = 1 << 20  # of an ipset
DEFAULT_LOG = Log("_default", rate_per_s=1, level="warn")  # the level iptables logs with


class Definitions:
    """The named things of all files. A definition is checked once; one that is wrong is in the report, which then lets
    no policy out: rules that use it go by what could be read of it.

    `zones`, `services`, `sets`, `logs` are what rules asked for, translated.
    """

    def __init__(self, sections: Sections, variables: Variables, report: Report) -> None:
        self.sections = sections
        self.variables = variables
        self.report = report
        self.zones: dict[str, Zone | None] = {}
        self.services: dict[str, Service | None] = {}
        self.sets: dict[str, AddressSet | None] = {}
        self.set_families: dict[str, tuple[int, ...]] = {}
        self.logs: dict[str, Log | None] = {"_default": DEFAULT_LOG}
        self.silent_logs: set[str] = set()

    def read_all(self) -> None:
        """Every definition, used or not: a mistake in one is told before somebody uses it."""
        for name, member in self.sections.named["zone"].items():
            self.zones[name] = self._zone(name, member)
        for name, member in self.sections.named["service"].items():
            self.services[name] = self._service(name, member)
        for name, member in self.sections.named["ipset"].items():
            self.sets[name] = self._set(name, member)
        for name, member in self.sections.named["log"].items():
            self.logs[name] = self._log(name, member)

    def zone(self, node: Node, name: str) -> Zone | None:
        if name not in self.zones:
            self.report.wrong(node.at, f"there is no zone {quoted(name)}", instead(name, (*self.zones, FIREWALL)))
        return self.zones.get(name)

    def service(self, node: Node, name: str) -> Service | None:
        if name not in self.services and name in SERVICES:
            self.services[name] = SERVICES[name]
            if name in WITH_HELPERS:
                self.report.warn(node.at, f"{name}: {HELPERS}", "let the other ports through by a service of their own")
        if name not in self.services:
            near = instead(name, (*self.services, *SERVICES))
            fix = near if near.startswith("write") else "define it under service, with proto and port"
            self.report.wrong(node.at, f"there is no service {quoted(name)}", fix)
        return self.services.get(name)

    def set(self, node: Node, name: str) -> AddressSet | None:
        if name not in self.sets:
            self.report.wrong(node.at, f"there is no ipset {quoted(name)}", instead(name, self.sets))
        return self.sets.get(name)

    def log(self, node: Node, name: str) -> str | None:
        if name not in self.logs:
            self.report.wrong(node.at, f"there is no log {quoted(name)}", instead(name, self.logs))
        return None if self.logs.get(name) is None else name

    def _named(self, kind: str, name: str, member: Member) -> Node | None:
        if NAME.fullmatch(name) and name != FIREWALL:
            return self.variables.expanded(member.value)
        what = f"{quoted(name)} cannot be the name of {article(kind)}"
        fix = f"{FIREWALL} is the router itself" if name == FIREWALL else "use letters, digits and _ . -, 63 at most"
        self.report.wrong(member.at, what, fix)
        return None

    def _zone(self, name: str, member: Member) -> Zone | None:
        node = self._named("zone", name, member)
        if node is None:
            return None
        zone = Members(node, "zone", self.report)
        devices = _devices(zone)
        prefixes = zone.networks("addr")
        ipsec = zone.truth("ipsec")
        route_back = zone.truth("route-back")
        for word, found in (("iface", devices), ("addr", prefixes)):
            if found == () and zone.sound:
                self.report.warn(
                    zone.place(word), f"zone {name} has no {word} at all: its rules fit nothing", "name some"
                )
        if zone.sound and not any(word in zone for word in ("iface", "addr", "ipsec")):
            what = f"zone {name} has neither iface nor addr: it is every device, those to the Internet among them"
            self.report.warn(member.at, what, 'write "iface" with the devices that are meant')
        return Zone(name, devices, prefixes, ipsec, bool(route_back), member.at.origin)

    def _service(self, name: str, member: Member) -> Service | None:
        node = self._named("service", name, member)
        if node is None:
            return None
        # An empty list is one of definitions, not a value that stands for a list of one.
        parts = node.value if isinstance(node.value, tuple) else (node,)
        if not parts:
            self.report.wrong(node.at, f"service {name} is an empty list", "write its proto and port")
        traffic = [self._traffic(Members(part, "service", self.report)) for part in parts]
        found = tuple(one for one in traffic if one is not None)
        return Service(name, found) if found and len(found) == len(traffic) else None

    def _traffic(self, service: Members) -> Traffic | None:
        protocol = self._protocol(service)
        family = service.text("family", FAMILIES)
        ports = service.ports("port")
        kind = service.number("type", 0, 255)
        reply = service.number("reply-type", 0, 255)
        if not service.sound:
            return None
        own = ICMP.get(protocol) if protocol is not None else None
        if service.node("port") is not None and protocol not in WITH_PORTS:
            service.wrong(service.place("port"), "only tcp and udp have ports", "remove it, or write the proto")
        if (kind is not None or reply is not None) and own is None:
            word = "type" if kind is not None else "reply-type"
            service.wrong(service.place(word), "only icmp and icmpv6 have types", "remove it, or write the proto")
        if family is not None and own is not None and FAMILIES[family] != own:
            service.wrong(service.place("family"), f"this proto is of IPv{own}", "remove the family")
        if not service.sound:
            return None
        if own is None and family is not None:
            own = FAMILIES[family]
        return Traffic(protocol, ports, () if kind is None else (kind,), own)

    def _protocol(self, service: Members) -> int | None:
        node = service.node("proto")
        if node is None:
            if service.sound:
                service.wrong(service.at, "the service has no proto", 'write "proto": "tcp", or what it is')
            return None
        if isinstance(node.value, str) and not node.value.isdigit():
            name = service.text("proto", PROTOCOLS)
            number = None if name is None else PROTOCOLS[name]
        else:
            number = service.number("proto", 0, 255)
        return number or None  # 0 is any, as for iptables

    def _set(self, name: str, member: Member) -> AddressSet | None:
        node = self._named("ipset", name, member)
        if node is None:
            return None
        ipset = Members(node, "ipset", self.report)
        kind = ipset.text("type")
        family = ipset.text("family", FAMILIES)
        ipset.number("size", 1, MOST_MEMBERS)
        if kind is not None and kind not in ("hash:ip", "hash:net"):
            ipset.wrong(ipset.place("type"), f"sets of {kind[:40]} are not done", "use hash:ip or hash:net")
        elif kind is None and ipset.sound:
            ipset.wrong(ipset.at, "the ipset has no type", 'write "type": "hash:net"')
        elif family is None and ipset.sound:
            ipset.wrong(ipset.at, "the ipset has no family", 'write "family": "inet" or "inet6"')
        for word in ("range", "timeout"):
            if word in ipset and ipset.node(word) != Node(ipset.place(word), value=False):
                ipset.wrong(ipset.place(word), f"{word} of an ipset is not done", "remove it")
        if not ipset.sound or family is None:
            return None
        self.set_families[name] = (FAMILIES[family],)
        return AddressSet(name, (), member.at.origin)

    def _log(self, name: str, member: Member) -> Log | None:
        word = name.removeprefix("_")
        node = self._named("log", word, Member(member.at, member.value))
        if node is None:
            return None
        log = Members(node, "log", self.report)
        mode = log.text("mode", ("log", "nflog", "ulog", "none")) or "log"
        prefix = log.text("prefix") or ""
        group = log.number("group", 0, 65535)
        octets = log.number("range", 0, 65535)
        rate = self._rate(log)
        level = self._level(log)
        if mode == "ulog":
            log.wrong(log.place("mode"), "ulog is not done: the kernel has it no more", 'write "nflog"')
        if prefix and not PREFIX.fullmatch(prefix):
            fix = "use up to 28 letters, digits, blanks and _.,:;/()=<>[]+-"
            log.wrong(log.place("prefix"), f"{quoted(prefix)} cannot be a prefix", fix)
        for attribute in ("group", "range"):
            if attribute in log and mode != "nflog":
                log.wrong(log.place(attribute), f"{attribute} is for nflog", 'write "mode": "nflog", or remove it')
        if "level" in log and mode == "nflog":
            log.wrong(log.place("level"), "nflog has no level", "remove it")
        if not log.sound:
            return None
        if mode == "none":
            self.silent_logs.add(name)
        return Log(name, prefix, rate, (group or 0) if mode == "nflog" else None, level, octets)

    def _rate(self, log: Members) -> int | None:
        """Entries a second; None: all."""
        node = log.node("limit")
        if node is None:
            return None
        if not isinstance(node.value, dict):
            return log.number("limit", 1, 100_000)
        limit = Members(node, "limit", self.report)
        count = limit.number("count", 1, 100_000) or 1
        interval = limit.number("interval", 1, 86_400) or 1
        for word in ("src-mask", "dest-mask", "name", "addr", "log"):
            if word in limit and limit.node(word) != Node(limit.place(word), value=False):
                log.wrong(limit.place(word), f"{word} in the limit of a log is not done", "remove it")
        if limit.sound and count % interval:
            fix = f"write {max(1, count // interval)}: so many a second"
            log.wrong(node.at, f"{count} entries in {interval} s are no whole number a second", fix)
        log.sound = log.sound and limit.sound
        return max(1, count // interval)

    def _level(self, log: Members) -> str:
        node = log.node("level")
        if node is None:
            return DEFAULT_LOG.level
        word = str(node.value) if isinstance(node.value, str | int) else ""
        if word not in LEVELS:
            log.wrong(node.at, f"level cannot be {quoted(word)}", f"write one of {', '.join(_LEVELS)}")
        return LEVELS.get(word, DEFAULT_LOG.level)


def _devices(zone: Members) -> tuple[str, ...] | None:
    found = zone.texts("iface")
    if found is None:
        return None
    devices = []
    for node, name in found:
        if not DEVICE.fullmatch(name) or len(name.rstrip("+")) > LONGEST_DEVICE:
            fix = "write letters, digits and _ . : @ -, 15 at most, and + at the end for all that begin so"
            zone.wrong(node.at, f"{quoted(name)} is no name of a device", fix)
            continue
        devices.append(f"{name[:-1]}*" if name.endswith("+") else name)
    return tuple(dict.fromkeys(devices))


def masked(limit: Members, word: str, place: Place) -> tuple[int | None, int | None] | None:
    """Prefix lengths by which hosts are told apart, of IPv4 and IPv6; (None, None): not told apart. None: not said."""
    node = limit.node(word)
    if node is None:
        return None
    if isinstance(node.value, dict):
        mask = Members(node, "mask", limit.report)
        pair = (_length(mask, "inet", 32), _length(mask, "inet6", 128))
        limit.sound = limit.sound and mask.sound
        return pair
    return (_length(limit, word, 32), _length(limit, word, 128, more=True))


def _length(members: Members, word: str, longest: int, *, more: bool = False) -> int | None:
    node = members.node(word)
    if node is None or node.value is False:
        return None
    if node.value is True:
        return longest
    # One number for both families: IPv4's bound is told, IPv6 takes the same length.
    value = members.number_of(word, node, 0, 32 if more else longest)
    return value or None
