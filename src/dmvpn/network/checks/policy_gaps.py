"""The zone policy: what a `default` of the file's own leaves out, and nobody misses before it is in force.

Whoever means it says so by a rule that drops: what is decided is not asked about.
"""

from collections.abc import Iterable, Iterator

from dmvpn.errors import Problem
from dmvpn.firewall.policy import FIREWALL
from dmvpn.network.checks.policy import written_rules
from dmvpn.network.checks.policy_zones import networks_of, outside, overlays, with_default, zones_with
from dmvpn.network.model import Network
from dmvpn.network.places import Place, hubs, members, places
from dmvpn.network.policy import services
from dmvpn.network.policy_defaults import MANAGEMENT, SSH_PORT
from dmvpn.network.policy_model import Action, Policy, Rule
from dmvpn.network.source import Key
from dmvpn.network.zoning import INTERNET, VPN, network_zones

TCP, UDP = 6, 17
DEFAULT: Key = ("policy", "default")
PEOPLE = "lan"  # who is there to use the Internet
ROUTERS_OWN = (  # what a router asks the Internet for, the purpose, protocol and port
    ("dns", "names", UDP, 53),
    ("https", "packages, network time with NTS, revocation lists", TCP, 443),
)


def _meaning(network: Network, policy: Policy, zone: str) -> set[str]:
    """Names by which a rule can mean networks of a zone."""
    return {zone, *zones_with(policy, *networks_of(network, zone))}


def _means(named: tuple[str, ...], zones: Iterable[str]) -> bool:
    return not named or not set(named).isdisjoint(zones)


def _decided(policy: Policy, come: Iterable[str], go: Iterable[str]) -> Iterator[Rule]:
    """Rules about what goes from the one to the other, whatever they do with it."""
    from_, to = set(come), set(go)
    for _, rule in written_rules(policy):
        if rule.action is not Action.PASS and _means(rule.in_, from_) and _means(rule.out, to):
            yield rule


def _concerns(policy: Policy, rule: Rule, protocol: int, port: int) -> bool:
    known = services(policy.services)
    return not rule.service or any(known[name].has(protocol, port) for name in rule.service if name in known)


def people_without_internet(network: Network) -> Iterator[Problem]:
    policy = with_default(network)
    if policy is None or PEOPLE not in network_zones(network):
        return
    if not any(_decided(policy, _meaning(network, policy, PEOPLE), outside(policy))):
        what = f"no rule lets zone {PEOPLE} reach the Internet"
        fix = f"add {{in: {PEOPLE}, out: {INTERNET}}}, or with action: drop if that is meant"
        yield Problem(DEFAULT, what, fix, warning=True)


def routers_without_internet(network: Network) -> Iterator[Problem]:
    policy = with_default(network)
    if policy is None:
        return
    rules = list(_decided(policy, (FIREWALL,), outside(policy)))
    for service, purpose, protocol, port in ROUTERS_OWN:
        if not any(_concerns(policy, rule, protocol, port) for rule in rules):
            what = f"the router itself cannot get {purpose} from the Internet: no {service}"
            fix = f"add {{in: {FIREWALL}, out: {INTERNET}, service: {service}}}, or with action: drop if it needs none"
            yield Problem(DEFAULT, what, fix, warning=True)


def spokes_apart(network: Network) -> Iterator[Problem]:
    """Through a hub spokes reach each other until they have a shortcut, and wherever they can have none."""
    policy = network.policy or Policy()
    relaying = [name for name in network.clouds if any(_relays(network, name))]
    for name, zone in policy.zones.items():
        if zone.route_back is False and set(zone.clouds) & set(relaying):
            what = f"what comes in by a cloud of {name} never leaves by it: a hub lets no spoke reach another"
            fix = "remove route-back, unless no hub has the zone or that is meant"
            yield Problem(("policy", "zones", name, "route-back"), what, fix, warning=True)
    spokes = overlays(policy)
    if with_default(network) is not None and relaying and not any(_decided(policy, spokes, spokes)):
        what = f"no rule lets {VPN} reach {VPN}: a hub lets no spoke reach another"
        fix = f"add {{in: {VPN}, out: {VPN}}}, or with action: drop if that is meant"
        yield Problem(DEFAULT, what, fix, warning=True)


def _relays(network: Network, cloud: str) -> Iterator[Place]:
    if len(list(members(network, cloud))) > 2:
        yield from (member.place for member in hubs(network, cloud) if member.place.ours)


def locked_out(network: Network) -> Iterator[Problem]:
    """With a default SSH is let in only where the section of the service, or a rule, says so."""
    policy = with_default(network)
    if policy is None:
        return
    zones = network_zones(network)
    come = {name for zone in zones for name in _meaning(network, policy, zone)} | overlays(policy)
    rules = [rule for rule in _decided(policy, come | outside(policy), (FIREWALL,)) if rule.action is Action.ACCEPT]
    if any(_concerns(policy, rule, TCP, SSH_PORT) for rule in rules):
        return
    for place in places(network):
        if place.ours and place.site.services.ssh is None and place.router.services.ssh is None:
            zone = MANAGEMENT if MANAGEMENT in zones else "lan"
            what = f"nobody is let in to the SSH of {place.name}, nor of routers like it: administrators are locked out"
            rule = f"{{in: {zone}, out: {FIREWALL}, service: ssh}}"
            fix = f"add {rule}, or to the site services: {{ssh: {{zones: [{zone}]}}}}"
            yield Problem(DEFAULT, what, fix, warning=True)
            return


CHECKS = (
    people_without_internet,
    routers_without_internet,
    spokes_apart,
    locked_out,
)
