"""What charon is told of a peer that we call."""

from ipaddress import IPv4Address, IPv6Address

from dmvpn.daemon.foreign import Foreign
from dmvpn.daemon.orders import Connect
from dmvpn.daemon.settings import Settings
from dmvpn.linux.vici_client import Mode, PeerConnection

Address = IPv4Address | IPv6Address

DYNAMIC = "dynamic[gre]"  # the addresses that IKE itself runs between


def connection_to(order: Connect, settings: Settings, foreign: Foreign, source: Address | None) -> PeerConnection:
    """To one of ours in tunnel mode between transport addresses; to a foreign router as they all do it."""
    ike, bits = settings.ike, order.nbma.max_prefixlen
    ours = order.nbma in settings.transport_range
    return PeerConnection(
        name=order.connection,
        local_port=ike.port if order.remote.port == ike.port else ike.nat_port,
        remote_address=order.remote.host,
        remote_port=order.remote.port,
        remote_identity=None if ours else foreign.identity(order.nbma),
        local_identity=settings.identity,
        certificate=settings.paths.pki / "router.pem",
        authority=settings.paths.pki / ("ca.pem" if ours else "foreign-ca.pem"),
        mode=Mode.TUNNEL if ours else Mode.TRANSPORT,
        local_ts=f"{settings.transport}/{bits}[gre]" if ours else DYNAMIC,
        remote_ts=f"{order.nbma}/{bits}[gre]" if ours else DYNAMIC,
        ike_proposal=ike.ike_proposal,
        esp_proposal=ike.esp_proposal,
        rekey_s=ike.rekey_s,
        dpd_delay_s=ike.dpd_delay_s,
        local_address=None if source is None else str(source),
    )
