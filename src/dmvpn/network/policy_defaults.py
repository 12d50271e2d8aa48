"""What a policy says where the file does not: who reaches whom, and which of the router's services from where."""

from collections.abc import Iterator
from dataclasses import dataclass

from dmvpn.firewall import policy as firewall
from dmvpn.network.model import Network
from dmvpn.network.places import NOT_ANNOUNCED, Place
from dmvpn.network.services_model import Services
from dmvpn.network.zoning import INTERNET, VPN, here

MANAGEMENT = "management"
DMZ = "dmz"
VOICE = "voice"
SSH_PORT = 22
SSH_HERE = "SSH"  # a file's own names have small letters
ROAD_WARRIORS = "OPENVPN"
DERIVED = "derived: "
# From the Internet as the wiki has it, but in connections: a limit on packets would hold where a rule of the file's
# own allows more.
PINGS = firewall.Limit(10, 6)


@dataclass(frozen=True, slots=True)
class Standing:
    """A router, its zones, and what it serves."""

    network: Network
    place: Place
    zones: tuple[firewall.Zone, ...]

    @property
    def internal(self) -> tuple[str, ...]:
        """Zones of its networks."""
        names = (net.zone for net in self.place.site.networks.values())
        return tuple(name for name in here(names, self.zones) if name != firewall.FIREWALL)

    def has(self, *names: str) -> tuple[str, ...]:
        return here(names, self.zones)

    @property
    def services(self) -> Services:
        """The site's, and the router's own where they differ."""
        own = self.place.router.services
        given = {name: getattr(own, name) for name in Services.model_fields if getattr(own, name) is not None}
        return self.place.site.services.model_copy(update=given)


def default_rules(standing: Standing) -> Iterator[firewall.Rule]:
    """Between zones. Nothing comes in from the Internet; internet-only meets nothing but the Internet."""
    internal = standing.internal
    people = tuple(name for name in internal if name not in (MANAGEMENT, DMZ, VOICE, NOT_ANNOUNCED))
    reached = tuple(name for name in internal if name not in (MANAGEMENT, NOT_ANNOUNCED))
    everywhere = (*(name for name in internal if name != NOT_ANNOUNCED), VPN, INTERNET)
    yield _accept((firewall.FIREWALL,), None, "the router itself")
    for come, go in (
        ((MANAGEMENT,), everywhere),
        (people, (*people, DMZ, VOICE, VPN, INTERNET)),
        ((DMZ,), (DMZ, VPN, INTERNET)),
        ((VOICE,), (VOICE, VPN, INTERNET)),
        ((NOT_ANNOUNCED,), (INTERNET,)),
        ((VPN,), (*reached, VPN)),
    ):
        from_, to = standing.has(*come), standing.has(*go)
        if from_ and to:
            yield _accept(from_, to, f"{' '.join(from_)} to {' '.join(to)}")


def service_rules(standing: Standing) -> Iterator[firewall.Rule]:
    """What the router serves, and to whom; after the file's own rules, which may say otherwise."""
    services = standing.services
    guests = standing.has(NOT_ANNOUNCED)
    if services.dns is not None:
        yield from _serves(standing, "DNS", "dns", (*services.dns.zones, *guests))
    if services.dns_zone is not None:
        zones = services.dns.zones if services.dns is not None else standing.internal
        yield from _serves(standing, "its DNS zone", "dns", (*zones, VPN))
    if services.ntp is not None:
        yield from _serves(standing, "time", "ntp", (*services.ntp.zones, *guests))
    yield from _ssh(standing)
    warriors = standing.network.road_warriors
    if warriors is not None and standing.place.name in warriors.serve:
        yield from _serves(standing, "people on the road", ROAD_WARRIORS, (INTERNET,))
    yield from _serves(standing, "ping", "ping", (*standing.internal, VPN))
    for rule in _serves(standing, "ping from outside", "ping", (INTERNET,)):
        yield firewall.Rule(rule.match, rule.action, rule.origin, limit=PINGS)


def _ssh(standing: Standing) -> Iterator[firewall.Rule]:
    """As the section says, and from management always. Without one, and without rules for what no rule fits, nobody is
    locked out of a machine that he reached until now from inside."""
    ssh = standing.services.ssh
    policy = standing.network.policy
    if ssh is not None:
        yield from _serves(standing, "SSH", SSH_HERE, (MANAGEMENT, *ssh.zones))
    elif policy is not None and "default" not in policy.model_fields_set:
        yield from _serves(standing, "SSH", SSH_HERE, (MANAGEMENT, "lan", VPN))


def own_services(standing: Standing) -> Iterator[firewall.Service]:
    """Services on ports that the file chooses, under names that a file cannot have."""
    ssh, warriors = standing.services.ssh, standing.network.road_warriors
    yield _service(SSH_HERE, 6, SSH_PORT if ssh is None else ssh.port)
    if warriors is not None:
        yield _service(ROAD_WARRIORS, 17, warriors.port)


def _service(name: str, protocol: int, port: int) -> firewall.Service:
    return firewall.Service(name, (firewall.Traffic(protocol, (firewall.PortRange(port, port),)),))


def _serves(standing: Standing, why: str, service: str, zones: tuple[str, ...]) -> Iterator[firewall.Rule]:
    from_ = tuple(name for name in standing.has(*zones) if name != firewall.FIREWALL)
    if from_:
        match = firewall.Match(from_, (firewall.FIREWALL,), services=(service,))
        yield firewall.Rule(match, firewall.Action.ACCEPT, f"{DERIVED}{why}")


def _accept(come: tuple[str, ...], go: tuple[str, ...] | None, why: str) -> firewall.Rule:
    return firewall.Rule(firewall.Match(come, go), firewall.Action.ACCEPT, f"{DERIVED}{why}")
