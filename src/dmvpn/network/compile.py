"""From the network to the Plan of one router: every derived fact, once."""

from collections.abc import Iterator, Mapping

from dmvpn.errors import WrongInput
from dmvpn.network import plan
from dmvpn.network.clouds import crypto_profile, planned_cloud
from dmvpn.network.links import planned_bonds, planned_ports, planned_vlans
from dmvpn.network.loading import NO_SECRETS
from dmvpn.network.model import Network
from dmvpn.network.places import Member, Place, announced, places
from dmvpn.network.plan import Admin, Host, Ike, Opening, Plan, Plane, Protocol, Uplink
from dmvpn.network.planes import chosen_plane, forced_plane
from dmvpn.network.policy import planned_policy
from dmvpn.network.ports import planned_lans, planned_uplinks
from dmvpn.network.registry import registry
from dmvpn.network.site import planned_routes, planned_session, planned_vrrp, site_openings
from dmvpn.network.transport import transport_address
from dmvpn.network.unrendered import not_rendered
from dmvpn.network.vouched import is_encrypted
from dmvpn.network.wording import listed, nearest

DMVPND_PORT = 2332  # daemon.control has it too
BFD_PORTS = (3784, 3785, 4784)  # RFC 5881 4, RFC 5883 5


def compile_plan(
    network: Network,
    router: str,
    *,
    planes: tuple[Plane, ...] = (Plane.USERSPACE,),
    secrets: Mapping[str, bytes] = NO_SECRETS,
) -> Plan:
    """The Plan of one router of a checked network.

    `planes` are those the machine can do; `secrets` are the contents of `secret_files` and of awall's files, by path.
    Raises WrongInput for a router that is unknown or not ours, and for a secret that is missing or too long.
    """
    place = _place(network, router)
    plane = chosen_plane(network, place.router, planes)
    uplinks = planned_uplinks(network.network, place, secrets)
    ike = planned_ike(network, place)
    clouds = tuple(planned_cloud(network, member, plane, secrets) for member in _memberships(place))
    lans = planned_lans(place)
    return Plan(
        network=network.network,
        domain=network.domain,
        router=router,
        site=place.site_name,
        platform=place.router.platform,
        asn=place.site.asn or 0,
        prefixes=network.prefixes,
        transport=transport_address(network, place),
        transport_range=network.transport,
        serves=announced(place),
        uplinks=uplinks,
        lans=lans,
        clouds=clouds,
        ike=ike,
        registry=registry(network.network),
        openings=(*_openings(plane, ike, network.ports.bgp, uplinks, clouds), *site_openings(network, place)),
        not_rendered=not_rendered(network, place),
        host=_host(network, router),
        adopts=place.router.adopt,
        policy=planned_policy(network, place, lans, clouds, uplinks, secrets),
        bonds=planned_bonds(place),
        vlans=planned_vlans(place),
        ports=planned_ports(place),
        vrrp=planned_vrrp(network, place),
        session=planned_session(network, place),
        routes=planned_routes(place),
    )


def routers(network: Network) -> tuple[str, ...]:
    """Our own routers: those that have a Plan."""
    return tuple(place.name for place in places(network) if place.ours)


def plane_is_open(network: Network, router: str) -> bool:
    """Whether the file leaves the choice of this router's plane to its machine."""
    return forced_plane(network, _place(network, router).router) is None


def secret_files(network: Network, router: str) -> tuple[str, ...]:
    """The secret files compile_plan needs for this router, relative to the network file."""
    own = _known(network, router).router
    clouds = (network.clouds[name] for name in own.tunnels)
    nhrp = (cloud.nhrp.secret.file for cloud in clouds if cloud.nhrp.secret is not None)
    isps = (uplink.pppoe.password.file for uplink in own.uplinks.values() if uplink.pppoe is not None)
    return tuple(dict.fromkeys((*nhrp, *isps)))


def _known(network: Network, router: str) -> Place:
    found = next((place for place in places(network) if place.name == router), None)
    if found is None:
        names = tuple(place.name for place in places(network))
        near = nearest(router, names)
        fix = f"did you mean {near}?" if near else f"its routers are {listed(names)}"
        raise WrongInput(network.network, f"no router is called {router}", fix)
    return found


def _place(network: Network, router: str) -> Place:
    found = _known(network, router)
    if not found.ours:
        what = f"{router} is a {found.router.platform} router: it has no plan, because nothing of ours runs on it"
        raise WrongInput(network.network, what, f"write its own configuration with: dmvpn render {router}")
    return found


def _host(network: Network, router: str) -> Host:
    system = network.system
    return Host(
        hostname=router if system.hostname else None,
        timezone=system.timezone,
        resolvers=system.resolvers,
        admins=tuple(Admin(admin.name, admin.ssh_key) for admin in system.admins),
    )


def _memberships(place: Place) -> Iterator[Member]:
    return (Member(place, cloud, tunnel) for cloud, tunnel in place.router.tunnels.items())


def planned_ike(network: Network, place: Place) -> Ike:
    """What one router's charon is told, of ours or foreign."""
    # One SA carries all clouds between two routers, so a check has seen to it that they agree.
    clouds = [network.clouds[name] for name in place.router.tunnels]
    profile = crypto_profile(network, next(filter(is_encrypted, clouds), clouds[0]))
    return Ike(
        ike_proposal=profile.ike,
        esp_proposal=profile.esp,
        rekey_s=profile.rekey,
        identity=f"{place.name}.{network.domain}",
        port=network.ports.ike,
        nat_port=network.ports.ike_nat,
        dpd_delay_s=profile.dpd_delay,
    )


def _openings(
    plane: Plane, ike: Ike, bgp_port: int, uplinks: tuple[Uplink, ...], clouds: tuple[plan.Cloud, ...]
) -> Iterator[Opening]:
    outside = tuple(uplink.device for uplink in uplinks)
    yield Opening("IKE, and ESP in UDP", "udp", (ike.port, ike.nat_port), outside)
    match plane:
        case Plane.KERNEL:
            yield Opening("ESP", "esp", (), outside)
            yield Opening("GRE that came out of ESP", "gre", (), outside)
        case Plane.USERSPACE:
            # From charon's TUN, whatever the kernel calls it: the guards have dropped all other.
            yield Opening("GRE that came out of ESP", "gre", (), ())
    for protocol, why, above_ip, ports in (
        (Protocol.BGP, "BGP", "tcp", (bgp_port,)),
        (Protocol.OSPF, "OSPF", "ospf", ()),
    ):
        devices = tuple(cloud.device for cloud in clouds if cloud.routing is protocol)
        if devices:
            yield Opening(why, above_ip, ports, devices)
    for version, why, port in ((4, "RIP", 520), (6, "RIPng", 521)):
        devices = tuple(
            cloud.device
            for cloud in clouds
            if cloud.rip is not None and any(own.version == version for own in cloud.addresses)
        )
        if devices:
            yield Opening(why, "udp", (port,), devices)
    inside = tuple(cloud.device for cloud in clouds)
    yield Opening("dmvpnd of other routers", "tcp", (DMVPND_PORT,), inside)
    fast = tuple(cloud.device for cloud in clouds if cloud.bfd is not None)
    if fast:
        yield Opening("BFD", "udp", BFD_PORTS, fast)
    yield Opening("ping and path MTU discovery", "icmp", (), ())
