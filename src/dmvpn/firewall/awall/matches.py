"""Which packets a rule means: its zones, addresses, services, sets."""

from dataclasses import replace

from dmvpn.firewall.awall.definitions import Definitions
from dmvpn.firewall.awall.document import Node, Report
from dmvpn.firewall.awall.members import Members
from dmvpn.firewall.policy import FIREWALL, AddressSet, InSet, Match, Service, Side, Zone

SIDES = {"in": Side.SOURCE, "out": Side.DESTINATION}


class Matches:
    """Reads the match of each rule, and collects what the policy then has to define."""

    def __init__(self, definitions: Definitions, report: Report) -> None:
        self.definitions = definitions
        self.report = report
        self.zones: dict[str, Zone] = {}
        self.services: dict[str, Service] = {}
        self.sets: dict[str, AddressSet] = {}

    def of(self, rule: Members) -> tuple[Match, ...]:
        """One match, or one for each set: a packet that is in any of them fits. Empty when something is wrong."""
        zones = {side: self._zones(rule, side) for side in SIDES}
        self._in_esp(rule, zones)
        services = self._services(rule)
        match = Match(
            in_zones=zones["in"],
            out_zones=zones["out"],
            source=rule.networks("src"),
            destination=rule.networks("dest"),
            services=services,
        )
        self._one_family(rule, match)
        sets = self._sets(rule)
        if not rule.sound:
            return ()
        if sets is None:
            return (match,)
        return tuple(replace(match, sets=one.sets, families=one.families) for one in sets)

    def _one_family(self, rule: Members, match: Match) -> None:
        source, destination = ({one.version for one in some or ()} for some in (match.source, match.destination))
        if source and destination and not source & destination:
            what = "src and dest have no family in common, so no packet fits"
            rule.wrong(rule.place("dest"), what, "write both in IPv4, or both in IPv6")

    def _zones(self, rule: Members, side: str) -> tuple[str, ...] | None:
        found = rule.texts(side)
        if found is None:
            return None
        names = []
        for node, name in found:
            if name == FIREWALL:
                names.append(name)
                continue
            zone = self.definitions.zone(node, name)
            names.append(name)
            if zone is not None:
                self.zones[name] = zone
        return tuple(dict.fromkeys(names))

    def _in_esp(self, rule: Members, zones: dict[str, tuple[str, ...] | None]) -> None:
        """`ipsec` of a rule, from before zones had one: the zones of that side, as far as they are in ESP."""
        side = rule.text("ipsec", SIDES)
        if side is None:
            return
        fix = f'give the zone of "{side}" "ipsec": true'
        self.report.warn(rule.place("ipsec"), "ipsec of a rule is an old word for that of a zone", fix)
        names = zones[side]
        if names is None:
            zones[side] = (self._clone(Zone("ipsec", origin=rule.place("ipsec").origin)),)
        elif FIREWALL in names:
            rule.wrong(rule.place("ipsec"), f'the router itself is in "{side}", and in no ESP', f"write {_other(side)}")
        else:
            zones[side] = tuple(self._clone(self.zones[name]) for name in names if name in self.zones)

    def _clone(self, zone: Zone) -> str:
        name = zone.name if zone.name == "ipsec" else f"{zone.name}_ipsec"
        clone = replace(zone, name=name, ipsec=True, route_back=False)
        while self.zones.get(clone.name, clone) != clone or clone.name in self.definitions.zones:
            clone = replace(clone, name=f"{clone.name}_")
        self.zones[clone.name] = clone
        return clone.name

    def _services(self, rule: Members) -> tuple[str, ...] | None:
        node = rule.node("service")
        if node is None:
            return None
        names = []
        for item in rule.items("service", node):
            if isinstance(item.value, dict | tuple):
                rule.wrong(
                    item.at, f"{item.kind} is here for the name of a service", "define it under service, by a name"
                )
        if not rule.sound:
            return ()
        for item, name in rule.texts("service") or ():
            service = self.definitions.service(item, name)
            if service is None:
                rule.sound = False
                continue
            self.services[name] = service
            names.append(name)
        return tuple(dict.fromkeys(names))

    def _sets(self, rule: Members) -> tuple[Match, ...] | None:
        node = rule.node("ipset")
        if node is None:
            return None
        found = []
        for item in rule.items("ipset", node):
            one = self._set(rule, item)
            if one is not None:
                found.append(one)
        return tuple(found)

    def _set(self, rule: Members, node: Node) -> Match | None:
        reference = Members(node, "ipset reference", self.report)
        name = reference.text("name")
        sides = reference.texts("args", SIDES)
        if reference.sound and (name is None or sides is None or len(sides) != 1):
            fix = 'write "name" of an ipset and "args": "in" or "out"'
            reference.wrong(node.at, "a set is looked up with one address of the packet", fix)
        if not reference.sound or name is None or not sides:
            rule.sound = False
            return None
        known = self.definitions.set(Node(reference.place("name"), name), name)
        if known is None:
            rule.sound = False
            return None
        self.sets[name] = known
        return Match(sets=(InSet(name, SIDES[sides[0][1]]),), families=self.definitions.set_families[name])


def _other(side: str) -> str:
    return '"ipsec": "out"' if side == "in" else '"ipsec": "in"'
