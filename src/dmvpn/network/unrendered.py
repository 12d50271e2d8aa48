"""What the file says and no engine renders yet. An engine that arrives takes its line out of here."""

from collections.abc import Iterator

from dmvpn.network.model import Network, Underlay
from dmvpn.network.places import Place, members
from dmvpn.network.services_model import Services
from dmvpn.network.vouched import is_encrypted


def not_rendered(network: Network, place: Place) -> tuple[str, ...]:
    """The sections that concern this router, as dotted keys: its own site, its clouds, what all routers share."""
    return (
        *_of_clouds(network, place),
        *_of_networks(place),
        *_of_router(place),
        *_of_all(network, place),
    )


def _of_clouds(network: Network, place: Place) -> Iterator[str]:
    for name in place.router.tunnels:
        cloud = network.clouds[name]
        # Between our own routers ESP carries IPv4 to transport addresses, whatever the outer family is.
        if cloud.underlay is Underlay.IPV6 and not (is_encrypted(cloud) and _all_ours(network, name)):
            yield f"clouds.{name}.underlay"


def _all_ours(network: Network, cloud: str) -> bool:
    return all(member.place.ours for member in members(network, cloud))


def _of_networks(place: Place) -> Iterator[str]:
    for name, net in place.site.networks.items():
        key = f"sites.{place.site_name}.networks.{name}"
        if net.dhcp is not None:
            yield f"{key}.dhcp"


def _of_router(place: Place) -> Iterator[str]:
    key = ".".join(str(part) for part in place.key)
    yield from (f"sites.{place.site_name}.services.{name}" for name in _services(place.site.services))
    yield from (f"{key}.services.{name}" for name in _services(place.router.services))


def _services(services: Services) -> Iterator[str]:
    for name, field in Services.model_fields.items():
        if getattr(services, name) is not None:
            yield field.alias or name


def _of_all(network: Network, place: Place) -> Iterator[str]:
    if network.road_warriors is not None and place.name in network.road_warriors.serve:
        yield "road-warriors"
    system = network.system
    yield from (f"system.{name}" for name in ("proxy", "syslog") if name in system.model_fields_set)
