"""The kernel's names of uplinks and networks on one router."""

from dmvpn.network.model import SiteNetwork, Uplink
from dmvpn.network.places import Place, own_addresses
from dmvpn.network.plan import Lan
from dmvpn.network.plan import Uplink as PlannedUplink

ETHERNET_MTU_OCTETS = 1500
PPPOE_MTU_OCTETS = 1492  # RFC 2516 7
METRIC_STEP = 100


def uplink_device(name: str, uplink: Uplink) -> str:
    """The port, port.vlan, the session's device, or a foreign router's interface."""
    if uplink.pppoe is not None:
        return f"ppp-{name}"[:15]
    port = uplink.port or uplink.interface or ""
    return port if uplink.vlan is None else f"{port}.{uplink.vlan}"


def lan_port(place: Place, net: SiteNetwork) -> str | None:
    """The network's own port; else the router's lan-port; else its only bond."""
    bonds = tuple(place.router.ports)
    return net.port or place.router.lan_port or (bonds[0] if len(bonds) == 1 else None)


def lan_device(place: Place, net: SiteNetwork) -> str | None:
    port = lan_port(place, net)
    return port if port is None or net.vlan is None else f"{port}.{net.vlan}"


def uplink_mtu_octets(uplink: Uplink) -> int:
    return uplink.mtu or (PPPOE_MTU_OCTETS if uplink.pppoe else ETHERNET_MTU_OCTETS)


def planned_uplinks(place: Place) -> tuple[PlannedUplink, ...]:
    """In the file's order, which is the order of their default routes."""
    return tuple(
        PlannedUplink(
            name=name,
            device=uplink_device(name, uplink),
            addresses=uplink.address,
            gateways=uplink.gateway,
            dhcp=uplink.dhcp,
            public=uplink.public,
            mtu_octets=uplink_mtu_octets(uplink),
            metric=METRIC_STEP * (index + 1),
        )
        for index, (name, uplink) in enumerate(place.router.uplinks.items())
    )


def planned_lans(place: Place) -> tuple[Lan, ...]:
    """One for each prefix of each network of the site."""
    return tuple(
        Lan(name=name, device=lan_device(place, net) or "", prefix=address.network, address=address, zone=net.zone)
        for name, net in place.site.networks.items()
        for address in own_addresses(place, name, net)
    )
