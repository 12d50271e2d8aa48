"""One router's part in its clouds: hubs, NHRP, routing, MTU."""

from collections.abc import Mapping
from ipaddress import IPv4Address

from dmvpn.errors import WrongInput
from dmvpn.network import plan
from dmvpn.network.model import Cloud, CryptoProfile, Network, Underlay
from dmvpn.network.mtu import TCP_V4_OCTETS, TCP_V6_OCTETS, cipher_of, clear_mtu_octets, tunnel_mtu_octets
from dmvpn.network.places import NHRPD, Member, announced, hubs, members
from dmvpn.network.plan import Address, Bgp, BgpNeighbor, Hub, Nhrp, Ospf, Plane, Protocol, Rip, Role
from dmvpn.network.ports import uplink_mtu_octets
from dmvpn.network.preference import chooses, rank, site_clouds
from dmvpn.network.registry import device_name, multicast_group, nflog_group
from dmvpn.network.transport import transport_address
from dmvpn.network.vouched import foreign_peers, is_encrypted, reachable_addresses, underlay_address

NHRP_SECRET_OCTETS = 8  # Cisco's; longer ones are cut silently by some peers
REGISTRATIONS_PER_HOLDING_TIME = 3  # RFC 2332 5.2.3 asks for a third
BGP_KEEPALIVE_S = 10
BGP_HOLD_S = 30
OSPF_AREA = 0
RIP_UPDATE_S = 10
HOST_LENGTH = 32
OSPF_REFERENCE_BPS = 10_000_000_000
OSPF_DEFAULT_COST = 1000
BUILT_IN = CryptoProfile()


def planned_cloud(network: Network, member: Member, plane: Plane, secrets: Mapping[str, bytes]) -> plan.Cloud:
    """Everything about one cloud that one router must know.

    It depends on the router's own site and the hubs, and on the members that only the file vouches for.
    """
    name, cloud = member.cloud, network.clouds[member.cloud]
    role = member.tunnel.role
    mtu = cloud_mtu_octets(network, member, plane)
    others = tuple(hub for hub in hubs(network, name) if hub.place.name != member.place.name)
    return plan.Cloud(
        name=name,
        rank=rank(network, member),
        redistributes=cloud.redistribute if role is Role.HUB else (),
        device=device_name(network.network, name),
        role=role,
        plane=plane,
        gre_key=cloud.gre_key,
        ttl=cloud.ttl,
        mtu_octets=mtu,
        mss_v4_octets=mtu - TCP_V4_OCTETS,
        mss_v6_octets=mtu - TCP_V6_OCTETS,
        overlay=cloud.overlay,
        addresses=member.tunnel.address,
        uplinks=member.over,
        hubs=tuple(_hub(network, cloud, hub) for hub in others),
        nhrp=_nhrp(cloud, role, secrets),
        routing=cloud.routing,
        bgp=_bgp(network, member, others) if cloud.routing is Protocol.BGP else None,
        ospf=_ospf(network, member) if cloud.routing is Protocol.OSPF else None,
        rip=_rip(network, member) if cloud.routing is Protocol.RIP else None,
        bandwidth_bps=cloud.bandwidth,
        bfd=None if cloud.bfd is None else plan.Bfd(round(cloud.bfd.interval * 1000), cloud.bfd.multiplier),
        nflog_group=nflog_group(network.network, name),
        foreign=foreign_peers(network, member),
        encrypted=is_encrypted(cloud),
        underlay_address=underlay_address(cloud, member) if plane is Plane.KERNEL else None,
        multicast_group=multicast_group(network.network, name) if plane is Plane.KERNEL else 0,
    )


def crypto_profile(network: Network, cloud: Cloud) -> CryptoProfile:
    return BUILT_IN if cloud.crypto is None else network.crypto.get(cloud.crypto, BUILT_IN)


def cloud_mtu_octets(network: Network, member: Member, plane: Plane) -> int:
    """The device's MTU: what fits the narrowest uplink it may use and the narrowest way the cloud has.

    A foreign member is reached in transport mode, where more would fit; one device has one MTU, the smaller.
    """
    cloud = network.clouds[member.cloud]
    narrowest = min((cloud.underlay_mtu, *(uplink_mtu_octets(uplink) for uplink in member.known_uplinks())))
    outer_octets = 40 if cloud.underlay is Underlay.IPV6 else 20
    if not is_encrypted(cloud):
        return clear_mtu_octets(narrowest, outer_octets=outer_octets, gre_key=cloud.gre_key is not None)
    return tunnel_mtu_octets(
        narrowest,
        cipher_of(crypto_profile(network, cloud).esp),
        plane,
        outer_octets=outer_octets,
        gre_key=cloud.gre_key is not None,
        nat_traversal=cloud.nat_traversal,
    )


def _hub(network: Network, cloud: Cloud, hub: Member) -> Hub:
    endpoints: tuple[Address | str, ...] = reachable_addresses(cloud, hub)
    by_name = () if cloud.hubs is None else (cloud.hubs,)
    ours = hub.place.ours
    by_certificate = ours and is_encrypted(cloud)
    return Hub(
        router=hub.place.name,
        ours=ours,
        overlay=hub.tunnel.address,
        nbma=transport_address(network, hub.place) if by_certificate else reachable_addresses(cloud, hub)[0],
        endpoints=(*endpoints, *by_name),
        asn=hub.place.site.asn or 0,
    )


def _nhrp(cloud: Cloud, role: Role, secrets: Mapping[str, bytes]) -> Nhrp:
    holding_time_s = cloud.nhrp.holding_time
    return Nhrp(
        holding_time_s=holding_time_s,
        registration_s=max(1, holding_time_s // REGISTRATIONS_PER_HOLDING_TIME),
        authentication=_authentication(cloud, secrets),
        phase=cloud.phase,
        redirect=role is Role.HUB and cloud.phase == 3,
        shortcut=role is Role.SPOKE and cloud.phase == 3,
    )


def _authentication(cloud: Cloud, secrets: Mapping[str, bytes]) -> bytes | None:
    if cloud.nhrp.secret is None:
        return None
    path = cloud.nhrp.secret.file
    if path not in secrets:
        raise WrongInput(path, "the NHRP secret was not read", "put it there, with mode 0600")
    secret = secrets[path].rstrip(b"\r\n")
    if not 1 <= len(secret) <= NHRP_SECRET_OCTETS:
        what = f"the NHRP secret has {len(secret)} octets"
        raise WrongInput(path, what, f"use 1 to {NHRP_SECRET_OCTETS}, as Cisco does")
    return secret


def _bgp(network: Network, member: Member, others: tuple[Member, ...]) -> Bgp:
    site = member.place.site
    hub = member.tunnel.role is Role.HUB
    neighbors = tuple(
        BgpNeighbor(address=address, asn=other.place.site.asn or 0, name=other.place.name)
        for other in others
        for address in other.tunnel.address
        if any(own.version == address.version for own in member.tunnel.address)
    )
    overlays = tuple(overlay for cloud in network.clouds.values() for overlay in cloud.overlay)
    return Bgp(
        asn=site.asn or 0,
        router_id=IPv4Address(str(transport_address(network, member.place))),
        neighbors=neighbors,
        listen=network.clouds[member.cloud].overlay if hub else (),
        announce=network.prefixes if hub else announced(member.place),
        accept=network.prefixes,
        refuse=(*overlays, network.transport, *announced(member.place)) if hub else (),
        keepalive_s=BGP_KEEPALIVE_S,
        hold_s=BGP_HOLD_S,
        port=network.ports.bgp,
        beside=_beside(network, member),
        specific=chooses(network, network.clouds if hub else site_clouds(site)),
    )


def _beside(network: Network, member: Member) -> tuple[str, ...]:
    tunnels = member.place.router.tunnels
    if not any(tunnel.role is Role.HUB for tunnel in tunnels.values()):
        return ()
    return tuple(name for name in tunnels if name != member.cloud and network.clouds[name].routing is Protocol.BGP)


def _rip(network: Network, member: Member) -> Rip:
    overlay = next((one.prefixlen for one in network.clouds[member.cloud].overlay if one.version == 4), HOST_LENGTH)
    return Rip(length=overlay, update_s=RIP_UPDATE_S)


def _ospf(network: Network, member: Member) -> Ospf:
    cloud = network.clouds[member.cloud]
    cost = OSPF_DEFAULT_COST if cloud.bandwidth is None else OSPF_REFERENCE_BPS // cloud.bandwidth
    overlay = next((overlay.prefixlen for overlay in cloud.overlay if overlay.version == 4), HOST_LENGTH)
    # nhrpd takes nothing but a host address for its own; everybody else writes the overlay's mask.
    nhrpd = any(other.place.router.platform in NHRPD for other in members(network, member.cloud))
    return Ospf(
        length=HOST_LENGTH if nhrpd else overlay,
        area=OSPF_AREA,
        cost=max(1, min(65535, cost)),
        networks=(*cloud.overlay, *announced(member.place)),
    )
