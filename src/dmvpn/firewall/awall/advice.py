"""What is right in awall's language, and mostly not meant. Warnings only; each names what to write."""

from collections.abc import Collection, Iterable, Iterator

from dmvpn.firewall.awall.builtin import SERVICES, TCP, UDP
from dmvpn.firewall.awall.document import Report
from dmvpn.firewall.awall.policies import PolicyFile, Sections
from dmvpn.firewall.expansion import Names, arriving, forwarded, leaving, packets
from dmvpn.firewall.policy import FIREWALL, Action, Match, Policy, Rule

OPENVPN, HTTPS, DNS, DHCP = 1194, 443, 53, 67
OVERLAY_DEVICES = ("gre", "dmvpn")
TUNNEL_DEVICES = ("tun", "tap", "ovpn")


def give(
    policy: Policy, sections: Sections, files: Collection[PolicyFile], order: tuple[str, ...], report: Report
) -> None:
    """All warnings about what the files mean together. Where files are wrong, about what could be read of them."""
    view = _View(policy)
    paths = {file.at.file.rpartition("/")[2]: file.at.file for file in files}
    for file in files:
        if file.name not in order and file.sections:
            what = f"nobody enables or imports the policy {file.name}: its {', '.join(file.sections)} do nothing"
            report.warn(file.at, what, f"enable {file.name}, or remove the file")
    for warnings in (
        _one_way_tracks(policy),
        _everything(view),
        _more_than_meant(view),
        # What is wrong has left names that stand for nothing.
        () if report.is_wrong else _never(view),
        _deaf_tunnel(view),
        _no_way_out(view),
        _no_addresses(view),
        _router_without(view),
        _built_in(sections, view),
        _logged_drops(sections, view),
        _no_way_back(sections, view),
    ):
        for origin, what, fix in warnings:
            name, _, position = origin.partition(":")
            report.warn(f"{paths[name]}:{position}", what, fix)


Said = tuple[str, str, str]  # origin, what is so, what to write instead


class _View:
    """The policy, looked at by zone: those outside are what source NAT is for, and what shares a device with them."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.services = {one.name: one for one in policy.services}
        self.zones = {zone.name: zone for zone in policy.zones if zone.ipsec is not True}
        named = {name for nat in policy.source_nat if nat.to is not None for name in nat.match.out_zones or ()}
        devices = {device for name in named & self.zones.keys() for device in self.zones[name].devices or ()}
        self.outside = {name for name, zone in self.zones.items() if devices & set(zone.devices or ())}
        self.inside = {
            name: zone for name, zone in self.zones.items() if zone.devices and not devices & set(zone.devices)
        }

    @property
    def accepting(self) -> Iterator[Rule]:
        return (rule for rule in (*self.policy.rules, *self.policy.defaults) if rule.action is Action.ACCEPT)

    def has(self, match: Match, protocol: int, port: int) -> bool:
        """Whether a rule with this match concerns the port."""
        if match.services is None:
            return True
        return any(self.services[name].has(protocol, port) for name in match.services)


def _from(rule: Rule, name: str) -> bool:
    return rule.match.in_zones is None or name in rule.match.in_zones


def _to(rule: Rule, names: Iterable[str]) -> bool:
    return rule.match.out_zones is None or not set(names).isdisjoint(rule.match.out_zones)


def _one_way_tracks(policy: Policy) -> Iterator[Said]:
    tracks = [mark for mark in policy.marks if mark.tracks]
    for rule in tracks:
        if rule.match.in_zones is not None or not rule.match.out_zones:
            continue
        for zone in rule.match.out_zones:
            if any(other.mark == rule.mark and zone in (other.match.in_zones or ()) for other in tracks):
                continue
            what = f"connections that come in by {zone} are not marked: their answers leave by the main default route"
            yield rule.origin, what, f'add {{"in": "{zone}", "mark": {rule.mark}}}'


def _more_than_meant(view: _View) -> Iterator[Said]:
    for rule in view.policy.defaults:
        match = rule.match
        if (
            rule.action is Action.ACCEPT
            and match.out_zones is None
            and match.in_zones
            and FIREWALL not in match.in_zones
        ):
            what = f"all that {', '.join(match.in_zones)} sends to the router itself is accepted as well"
            yield rule.origin, what, 'write "out" with the zones that are meant'
    for rule in view.policy.rules:
        outside = view.outside.intersection(rule.match.in_zones or ())
        if rule.action is Action.ACCEPT and rule.match.out_zones is None and outside:
            what = f"what {', '.join(sorted(outside))} sends to hosts behind the router is accepted as well"
            yield rule.origin, what, 'write "out": "_fw" if only the router is meant'


def _everything(view: _View) -> Iterator[Said]:
    for rule in view.accepting:
        if rule.match == Match():
            what = "everything is accepted, wherever it comes from and goes to, the router itself included"
            yield rule.origin, what, 'write "in" and "out" with the zones that are meant'


def _never(view: _View) -> Iterator[Said]:
    names = Names.of(view.policy)
    for rule in (*view.policy.rules, *view.policy.defaults):
        match = rule.match
        zones = [names.zones.get(name) for name in (*(match.in_zones or ()), *(match.out_zones or ()))]
        if any(zone is not None and () in (zone.devices, zone.prefixes) for zone in zones) or _fits_some(names, match):
            continue  # of an empty zone that is told where it is defined
        if match.in_zones == match.out_zones == (FIREWALL,):
            yield rule.origin, "from the router to itself: that is always let through", "remove the rule"
        elif set(match.in_zones or ()) & set(match.out_zones or ()):
            what = "no packet fits: what came in by a device does not leave by it again"
            yield (
                rule.origin,
                what,
                f'write "route-back": true in zone {(match.out_zones or ("",))[0]} if that is meant',
            )
        else:
            what = "no packet fits: what its zones, addresses and services say excludes each other"
            yield rule.origin, what, "mend it, or remove it"


def _fits_some(names: Names, match: Match) -> bool:
    for side in (arriving, forwarded, leaving):
        sides = side(names, match)
        if sides is not None and any(packets(names, match, sides)):
            return True
    return False


def _deaf_tunnel(view: _View) -> Iterator[Said]:
    devices = [device for zone in view.policy.zones for device in zone.devices or ()]
    if any(device.startswith(TUNNEL_DEVICES) for device in devices):
        return
    for rule in view.accepting:
        match = rule.match
        asked = match.services is not None and any(view.has(match, protocol, OPENVPN) for protocol in (TCP, UDP))
        if asked and match.out_zones is not None and FIREWALL in match.out_zones:
            what = "OpenVPN is let in, but no zone has its device: all that comes out of its tunnel is dropped"
            yield rule.origin, what, 'add a zone with "iface": "tun0", and what it may'


def _no_way_out(view: _View) -> Iterator[Said]:
    if not view.outside:
        return
    for name, zone in view.inside.items():
        overlay = zone.prefixes is not None or any(one.startswith(OVERLAY_DEVICES) for one in zone.devices or ())
        if overlay:
            continue  # sites behind it have a way of their own
        if not any(_from(rule, name) and _to(rule, view.outside) for rule in view.accepting):
            outside = ", ".join(sorted(view.outside))
            what = f"nothing lets zone {name} to {outside}, though there is source NAT on the way there"
            yield (
                zone.origin,
                what,
                f'add {{"in": "{name}", "out": "{sorted(view.outside)[0]}", "action": "accept"}} to policy',
            )


def _no_addresses(view: _View) -> Iterator[Said]:
    for name, zone in view.inside.items():
        mine = [rule for rule in view.accepting if _from(rule, name) and _to(rule, (FIREWALL,))]
        names = any(rule.match.services is not None and view.has(rule.match, UDP, DNS) for rule in mine)
        if names and not any(view.has(rule.match, UDP, DHCP) for rule in mine):
            what = f"hosts of zone {name} may ask the router for names, but not for an address"
            yield zone.origin, what, 'let them have "dhcp" to "_fw" as well, unless they have fixed ones'


def _router_without(view: _View) -> Iterator[Said]:
    own = [rule for rule in view.accepting if FIREWALL in (rule.match.in_zones or ()) and _to(rule, view.outside)]
    if not own or not view.outside or any(rule.match.services is None for rule in own):
        return
    wanted = (("https", TCP, HTTPS, "packages, network time, revocation lists"), ("dhcp", UDP, DHCP, "an address"))
    for word, protocol, port, purpose in wanted:
        if not any(view.has(rule.match, protocol, port) for rule in own):
            what = f"the router itself cannot get {purpose} from {', '.join(sorted(view.outside))}: no {word}"
            yield own[0].origin, what, f'add "{word}" here, unless it needs none'


def _built_in(sections: Sections, view: _View) -> Iterator[Said]:
    for name, member in sections.named["service"].items():
        if name not in SERVICES:
            continue
        same = view.services.get(name) == SERVICES[name]
        what = f"awall has a service {name} already, {'as it is here' if same else 'and this one replaces it'}"
        yield member.at.origin, what, "remove it" if same else "give it a name of its own if both are meant"


def _logged_drops(sections: Sections, view: _View) -> Iterator[Said]:
    said = {node.at.origin for node in sections.rules["policy"] if isinstance(node.value, dict) and "log" in node.value}
    for rule in view.policy.defaults:
        outside = view.outside.intersection(rule.match.in_zones or ())
        if rule.log == "_default" and rule.origin not in said and rule.action is not Action.ACCEPT and outside:
            what = f"what is dropped from {', '.join(sorted(outside))} is logged, one entry a second all day"
            yield rule.origin, what, 'write "log": false, or true if that is meant'


def _no_way_back(sections: Sections, view: _View) -> Iterator[Said]:
    decided = {
        member.at.origin
        for member in sections.named["zone"].values()
        if isinstance(member.value.value, dict) and "route-back" in member.value.value
    }
    for name, zone in view.zones.items():
        if (
            zone.origin not in decided
            and not zone.route_back
            and any(device.startswith(OVERLAY_DEVICES) for device in zone.devices or ())
        ):
            what = f"from one host of zone {name} to another no rule with both in and out lets anything: a hub needs it"
            yield zone.origin, what, 'write "route-back": true on a hub, false on a spoke'
