"""awall's files as a network file names them: what they say, and what they cannot be together with."""

from collections.abc import Iterable, Iterator, Mapping

from dmvpn.errors import Finding, Problem, WrongInput
from dmvpn.firewall.awall.translation import Source, Translated, translate
from dmvpn.firewall.policy import FIREWALL, Action, Match, Service
from dmvpn.network.model import Network
from dmvpn.network.places import places
from dmvpn.network.plan import Plan
from dmvpn.network.services_model import Services
from dmvpn.network.source import Key

OTHERS = ("lo", "tun", "tap", "ovpn", "wg", "ppp")  # devices that a router may have of another program's


def policy_files(network: Network) -> tuple[str, ...]:
    """Paths of awall's files, relative to the network file."""
    return () if network.policy is None else network.policy.awall


def of_files(paths: tuple[str, ...], contents: Mapping[str, bytes]) -> Translated:
    """What the files mean. All count that are named, and what they import must be named too.

    Raises Problems with everything that is wrong in them, WrongInput for one that is missing or no text.
    """
    sources = []
    for path in dict.fromkeys(paths):
        if path not in contents:
            raise WrongInput(path, "awall's file is missing", "put it there, or take it out of policy.awall")
        try:
            sources.append(Source(path, contents[path].decode()))
        except UnicodeDecodeError as error:
            line = contents[path].count(b"\n", 0, error.start) + 1
            what = f"octet {contents[path][error.start]:#04x} is not UTF-8"
            raise WrongInput(f"{path}:{line}:1", what, "save it as UTF-8") from error
    return translate(sources)


def strangers(translated: Translated, plans: Iterable[Plan]) -> Iterator[Finding]:
    """Warnings about devices: those of zones that no router has, and those of clouds that are in no zone."""
    paths = {path.rpartition("/")[2]: path for path in translated.order}
    known: dict[str, str] = {}
    for plan in plans:
        known |= {lan.device: "" for lan in plan.lans} | {uplink.device: "" for uplink in plan.uplinks}
        known |= {cloud.device: cloud.name for cloud in plan.clouds}
    zoned: set[str] = set()
    for zone in translated.policy.zones:
        for device in known if zone.devices is None else zone.devices:
            fits = {name for name in known if _fits(name, device)}
            zoned |= fits
            if not fits and not device.startswith(OTHERS):
                name, _, position = zone.origin.partition(":")
                what = f"zone {zone.name} has the device {device}, and no router of the network file has one"
                fix = f"write one of {', '.join(sorted(known))}"
                yield Finding(f"{paths.get(name, name)}:{position}", what, fix, warning=True)
    for device, cloud in known.items():
        if cloud and device not in zoned:
            what = f"the device of cloud {cloud}, {device}, is in no zone: nothing passes between sites"
            yield Finding(f"{translated.order[0]}:1:1", what, f'add a zone with "iface": "{device}"', warning=True)


def unserved(translated: Translated, network: Network) -> Iterator[Problem]:
    """Warnings about services that the network file switches on, and no rule of awall's lets anybody ask.

    None is derived beside awall's files: whose zones may ask is theirs to say.
    """
    rules = (*translated.policy.rules, *translated.policy.defaults)
    named = {service.name: service for service in translated.policy.services}
    inward = [
        rule.match
        for rule in rules
        if rule.action is Action.ACCEPT and (rule.match.out_zones is None or FIREWALL in rule.match.out_zones)
    ]
    for key, services in _services(network):
        ssh = 22 if services.ssh is None else services.ssh.port
        for word, on, protocol, port in (
            ("dns", services.dns, 17, 53),
            ("ntp", services.ntp, 17, 123),
            ("ssh", services.ssh, 6, ssh),
        ):
            if on is not None and not any(_lets_in(match, named, protocol, port) for match in inward):
                what = f"{word} is on, and no rule of awall's files lets anybody ask for it"
                fix = f'add a filter with "out": "_fw" and the service of port {port}'
                yield Problem((*key, "services", word), what, fix, warning=True)


def _services(network: Network) -> Iterator[tuple[Key, Services]]:
    yield from ((("sites", name), site.services) for name, site in network.sites.items())
    yield from ((place.key, place.router.services) for place in places(network))


def _lets_in(match: Match, named: Mapping[str, Service], protocol: int, port: int) -> bool:
    if match.in_zones == (FIREWALL,):
        return False
    return match.services is None or any(named[name].has(protocol, port) for name in match.services)


def _fits(name: str, device: str) -> bool:
    return name.startswith(device[:-1]) if device.endswith("*") else name == device
