"""Which zones a router has, and on which of its devices.

A network is in the zone it names, every cloud in `vpn`, every uplink in `internet`. A zone of the policy with one of
these names stands instead. A zone that has nothing on a router is none of its zones.
"""

from collections.abc import Iterable, Iterator

from dmvpn.firewall import policy as firewall
from dmvpn.network.model import Network
from dmvpn.network.plan import Cloud, Lan, Uplink
from dmvpn.network.policy_model import PolicyZone

VPN = "vpn"
INTERNET = "internet"
DERIVED_ZONES = (VPN, INTERNET)
DEVICES = ("networks", "clouds", "uplinks")
MEMBERS = (*DEVICES, "prefixes")


def network_zones(network: Network) -> tuple[str, ...]:
    """Zones that networks of any site are in, in the file's order."""
    return tuple(dict.fromkeys(net.zone for site in network.sites.values() for net in site.networks.values()))


def known_zones(network: Network) -> tuple[str, ...]:
    """Every zone that the file makes, on whatever router."""
    written = network.policy.zones if network.policy is not None else ()
    return tuple(dict.fromkeys((*network_zones(network), *written, *DERIVED_ZONES)))


def planned_zones(
    written: dict[str, PolicyZone], lans: tuple[Lan, ...], clouds: tuple[Cloud, ...], uplinks: tuple[Uplink, ...]
) -> tuple[firewall.Zone, ...]:
    """The zones of one router: its networks', then those of clouds and uplinks, then the policy's own."""
    found = {zone.name: zone for zone in _derived(lans, clouds, uplinks) if zone.name not in written}
    for name, zone in written.items():
        devices = None
        if not zone.model_fields_set.isdisjoint(DEVICES):
            devices = _devices(
                *(lan.device for lan in lans if lan.name in zone.networks),
                *(cloud.device for cloud in clouds if cloud.name in zone.clouds),
                *(uplink.device for uplink in uplinks if uplink.name in zone.uplinks),
            )
        prefixes = zone.prefixes if "prefixes" in zone.model_fields_set else None
        if (devices is None and prefixes is None) or () in (devices, prefixes):
            continue
        route_back = bool(zone.clouds) if zone.route_back is None else zone.route_back
        found[name] = firewall.Zone(name, devices, prefixes, zone.ipsec, route_back, f"policy.zones.{name}")
    return tuple(found.values())


def _derived(lans: tuple[Lan, ...], clouds: tuple[Cloud, ...], uplinks: tuple[Uplink, ...]) -> Iterator[firewall.Zone]:
    for name in dict.fromkeys(lan.zone for lan in lans):
        yield firewall.Zone(name, _devices(*(lan.device for lan in lans if lan.zone == name)), origin="networks")
    yield firewall.Zone(VPN, _devices(*(one.device for one in clouds)), route_back=True, origin="clouds")
    yield firewall.Zone(INTERNET, _devices(*(one.device for one in uplinks)), origin="uplinks")


def _devices(*names: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def here(names: Iterable[str], zones: Iterable[firewall.Zone]) -> tuple[str, ...]:
    """Those of the names that are zones of this router, or the router."""
    known = {firewall.FIREWALL, *(zone.name for zone in zones)}
    return tuple(dict.fromkeys(name for name in names if name in known))
