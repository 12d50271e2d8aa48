"""What a cloud's engine is told of the rendered file's settings."""

from ipaddress import IPv4Network, IPv6Network

from dmvpn.daemon.settings import CloudSettings, Settings
from dmvpn.errors import Fault
from dmvpn.nhrp.events import EngineSettings, HubSetting, Role

Network = IPv4Network | IPv6Network


def engine_settings(cloud: CloudSettings, node: Settings) -> EngineSettings:
    """The engine's settings from the rendered file's. Raises Fault for a cloud in clear without a fixed address."""
    nbma, underlay = node.transport, cloud.underlay_address
    transport: tuple[Network, ...] = (node.transport_range,)
    if not cloud.encrypted:
        if underlay is None:
            raise Fault(f"cloud {cloud.name}", "is in clear, and no uplink has a fixed address", "run `dmvpn check`")
        nbma, transport, underlay = underlay, (), None
    elif cloud.plane != "kernel" or not cloud.foreign:
        underlay = None
    return EngineSettings(
        role=Role(cloud.role),
        phase=cloud.nhrp.phase,
        protocol=cloud.addresses,
        overlay=cloud.overlay,
        nbma=nbma,
        hubs=tuple(HubSetting(hub.router, hub.overlay, hub.nbma, hub.ours) for hub in cloud.hubs),
        serves=node.serves,
        mtu_octets=cloud.mtu_octets,
        holding_time_s=cloud.nhrp.holding_time_s,
        registration_s=cloud.nhrp.registration_s,
        authentication=cloud.nhrp.authentication,
        redirect=cloud.nhrp.redirect,
        shortcut=cloud.nhrp.shortcut,
        transport=transport,
        underlay_nbma=underlay,
        link_local_derived=cloud.link_local_next_hops,
    )
