"""Names that must name something."""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches

from dmvpn.errors import Problem
from dmvpn.firewall.policy import FIREWALL
from dmvpn.network.model import Network
from dmvpn.network.places import NOT_ANNOUNCED, places
from dmvpn.network.policy_defaults import DMZ, MANAGEMENT, VOICE
from dmvpn.network.policy_model import Policy
from dmvpn.network.services_model import Services
from dmvpn.network.source import Key
from dmvpn.network.values import Section
from dmvpn.network.vouched import IN_CLEAR
from dmvpn.network.wording import listed, nearest
from dmvpn.network.zoning import INTERNET, VPN, known_zones

MEANINGS = {FIREWALL: "it is the router itself", VPN: "it is all clouds", INTERNET: "it is all uplinks"}
WITH_RIGHTS = (MANAGEMENT, DMZ, VOICE, NOT_ANNOUNCED)  # zones with other rights than lan's
A_SLIP = 0.85  # of a likeness of 1: a letter, or two of a long word
OTHER_WORDS = {"guest": NOT_ANNOUNCED, "guests": NOT_ANNOUNCED, "mgmt": MANAGEMENT, "voip": VOICE}


def unknown(key: Key, kind: str, word: str, known: Iterable[str], at: str = "") -> Problem:
    """The problem of a name that names nothing, with the nearest one that would."""
    names = tuple(known)
    near = nearest(word, names)
    fix = f"did you mean {near}?" if near else f"there is only {listed(names)}" if names else f"add the {kind} first"
    return Problem(key, f"there is no {kind} {word}" + (f" at {at}" if at else ""), fix)


def clouds_of_tunnels(network: Network) -> Iterator[Problem]:
    for place in places(network):
        for cloud in place.router.tunnels:
            if cloud not in network.clouds:
                yield unknown((*place.key, "tunnels", cloud), "cloud", cloud, network.clouds)


def uplinks_of_tunnels(network: Network) -> Iterator[Problem]:
    for place in places(network):
        for cloud, tunnel in place.router.tunnels.items():
            key = (*place.key, "tunnels", cloud, "over")
            for index, uplink in enumerate(tunnel.over):
                if uplink not in place.router.uplinks:
                    yield unknown((*key, index), "uplink", uplink, place.router.uplinks, place.name)
                elif uplink in tunnel.over[:index]:
                    yield Problem(
                        (*key, index), f"uplink {uplink} is here twice", "name each uplink once, the best first"
                    )


def networks_of_addresses(network: Network) -> Iterator[Problem]:
    for place in places(network):
        for name in place.router.addresses:
            if name not in place.site.networks:
                key = (*place.key, "addresses", name)
                yield unknown(key, "network", name, place.site.networks, place.site_name)


def crypto_profiles(network: Network) -> Iterator[Problem]:
    for name, cloud in network.clouds.items():
        if cloud.crypto is not None and cloud.crypto not in (IN_CLEAR, *network.crypto):
            yield unknown(("clouds", name, "crypto"), "crypto profile", cloud.crypto, network.crypto)


def redistributed_clouds(network: Network) -> Iterator[Problem]:
    for name, cloud in network.clouds.items():
        for index, other in enumerate(cloud.redistribute):
            if other not in network.clouds:
                yield unknown(("clouds", name, "redistribute", index), "cloud", other, network.clouds)


def road_warriors(network: Network) -> Iterator[Problem]:
    if network.road_warriors is None:
        return
    known = {place.name: place for place in places(network)}
    for index, router in enumerate(network.road_warriors.serve):
        key = ("road-warriors", "serve", index)
        if router not in known:
            yield unknown(key, "router", router, known)
        elif not known[router].ours:
            what = f"{router} is a {known[router].router.platform} router, and only ours serve people on the road"
            yield Problem(key, what, "name a debian or alpine router")


def router_names(network: Network) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for place in places(network):
        if place.name in seen:
            what = f"a router of {seen[place.name]} is called {place.name} too"
            yield Problem(place.key, what, "rename one: certificates carry the router's name")
        seen.setdefault(place.name, place.site_name)


def zones(network: Network) -> Iterator[Problem]:
    """Zones are those of the networks and of the policy; what is not written is not judged."""
    made = {*known_zones(network), FIREWALL}
    for key, section, field in _zone_lists(network):
        if field in section.model_fields_set:
            for index, zone in enumerate(getattr(section, field) or ()):
                if zone not in made:
                    yield unknown(
                        (*key, type(section).model_fields[field].alias or field, index), "zone", zone, sorted(made)
                    )


def zones_of_networks(network: Network) -> Iterator[Problem]:
    """A network is in no zone that means something else; and in one of its own by intent, not by a slip.

    A slip has consequences that nobody sees: what is in no known zone may what lan may, and is announced to the clouds.
    """
    written = network.policy.zones if network.policy is not None else {}
    for site_name, site in network.sites.items():
        for name, net in site.networks.items():
            key: Key = ("sites", site_name, "networks", name, "zone")
            if net.zone in MEANINGS:
                what = f"no network is in zone {net.zone}: {MEANINGS[net.zone]}"
                yield Problem(key, what, "use lan, or a name of your own")
            elif net.zone not in (*WITH_RIGHTS, *written):
                slips = get_close_matches(net.zone, WITH_RIGHTS, n=1, cutoff=A_SLIP)
                near = OTHER_WORDS.get(net.zone) or next(iter(slips), "")
                if near:
                    what = f"zone {net.zone} is one of your own, with the rights of lan"
                    fix = f"did you mean {near}? If not, say what is in it under policy.zones"
                    yield Problem(key, what, fix, warning=True)


def tested_zones(network: Network) -> Iterator[Problem]:
    made = sorted({*known_zones(network), FIREWALL})
    for index, test in enumerate(network.policy.tests if network.policy is not None else ()):
        for word, zone in (("in", test.in_), ("out", test.out)):
            if zone not in made:
                yield unknown(("policy", "tests", index, word), "zone", zone, made)


def _zone_lists(network: Network) -> Iterator[tuple[Key, Section, str]]:
    for site_name, site in network.sites.items():
        yield from _of_services(("sites", site_name, "services"), site.services)
    for place in places(network):
        yield from _of_services((*place.key, "services"), place.router.services)
    if network.road_warriors is not None:
        yield ("road-warriors",), network.road_warriors, "zones"
        for name, person in network.road_warriors.people.items():
            yield ("road-warriors", "people", name), person, "zones"
    if network.policy is not None:
        yield from _of_policy(network.policy)


def _of_policy(policy: Policy) -> Iterator[tuple[Key, Section, str]]:
    sides = (
        ("rules", policy.rules, ("in_", "out")),
        ("default", policy.default, ("in_", "out")),
        ("source-nat", policy.source_nat, ("in_", "out")),
        ("destination-nat", policy.destination_nat, ("in_",)),
        ("marks", policy.marks, ("in_", "out")),
        ("route-track", policy.route_track, ("zone",)),
    )
    for word, parts, fields in sides:
        for index, part in enumerate(parts):
            yield from ((("policy", word, index), part, field) for field in fields)
    yield ("policy",), policy, "clamp_mss"


def _of_services(key: Key, services: Services) -> Iterator[tuple[Key, Section, str]]:
    for word, service in (("dns", services.dns), ("ntp", services.ntp), ("ssh", services.ssh)):
        if service is not None:
            yield (*key, word), service, "zones"


CHECKS = (
    clouds_of_tunnels,
    uplinks_of_tunnels,
    networks_of_addresses,
    crypto_profiles,
    redistributed_clouds,
    road_warriors,
    router_names,
    zones,
    zones_of_networks,
    tested_zones,
)
