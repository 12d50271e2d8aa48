"""What the file says and no engine renders yet. An engine that arrives takes its line out of here."""

from collections.abc import Iterator

from dmvpn.network.model import Network, Underlay
from dmvpn.network.places import Place
from dmvpn.network.plan import Protocol
from dmvpn.network.services_model import Services


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
        if cloud.routing is Protocol.RIP:
            yield f"clouds.{name}.routing"
        if cloud.bfd is not None and cloud.routing is not Protocol.BGP:
            yield f"clouds.{name}.bfd"
        if cloud.redistribute:
            yield f"clouds.{name}.redistribute"
        if cloud.underlay is Underlay.IPV6:
            yield f"clouds.{name}.underlay"


def _of_networks(place: Place) -> Iterator[str]:
    for name, net in place.site.networks.items():
        key = f"sites.{place.site_name}.networks.{name}"
        if net.vlan is not None:
            yield f"{key}.vlan"
        if net.dhcp is not None:
            yield f"{key}.dhcp"
        if net.gateway and len(place.site.routers) > 1:
            yield f"{key}.gateway"  # VRRP


def _of_router(place: Place) -> Iterator[str]:
    key = ".".join(str(part) for part in place.key)
    for port in place.router.ports:
        yield f"{key}.ports.{port}"
    for name, uplink in place.router.uplinks.items():
        sections = {
            "vlan": uplink.vlan is not None,
            "dhcp": uplink.dhcp,
            "pppoe": uplink.pppoe is not None,
            "probes": bool(uplink.probes),
        }
        yield from (f"{key}.uplinks.{name}.{section}" for section, present in sections.items() if present)
    yield from (f"sites.{place.site_name}.services.{name}" for name in _services(place.site.services))
    yield from (f"{key}.services.{name}" for name in _services(place.router.services))


def _services(services: Services) -> Iterator[str]:
    for name, field in Services.model_fields.items():
        if getattr(services, name) is not None:
            yield field.alias or name


def _of_all(network: Network, place: Place) -> Iterator[str]:
    if network.road_warriors is not None and place.name in network.road_warriors.serve:
        yield "road-warriors"
    if "system" in network.model_fields_set:
        yield "system"
    if network.policy is not None:
        yield "policy"
