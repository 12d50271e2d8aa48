"""Plans written by hand, for tests of one renderer at a time."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, ip_address, ip_network

from dmvpn.network.plan import (
    Bgp,
    BgpNeighbor,
    Cloud,
    Hub,
    Ike,
    Lan,
    Mark,
    Nhrp,
    Plan,
    Plane,
    Platform,
    Protocol,
    Registry,
    Role,
    Uplink,
    Watch,
)
from dmvpn.render.learned import Learned, Spoke

TRANSPORT = IPv4Network("100.64.0.0/16")
PREFIXES = (ip_network("10.0.0.0/8"),)
OVERLAY = ip_network("10.255.1.0/24")
HUB_OVERLAY = IPv4Address("10.255.1.1")

WATCH = Watch((), 1.0, 0.15, 0.8, 1, 1, 1, 5, 10, 50, None, None)
REGISTRY = Registry(
    ike_table=220,
    ike_priority=220,
    ike_mark=Mark(0x42, 0xFF),
    ipsec_device="acme.ipsec",
    ipsec_group=4202,
    route_protocol=79,
    uplink_priority=400,
    uplink_mask=0x00FF0000,
    uplink_tables=440000,
)


def _ike(router: str) -> Ike:
    return Ike(
        ike_proposal="aes256gcm16-prfsha384-ecp384",
        esp_proposal="aes256gcm16",
        rekey_s=7200,
        identity=f"{router}.example.net",
        port=500,
        nat_port=4500,
        dpd_delay_s=2,
    )


def _cloud(role: Role, own: IPv4Address, hubs: tuple[Hub, ...], bgp: Bgp) -> Cloud:
    return Cloud(
        name="blue",
        device="acme-blue",
        role=role,
        plane=Plane.USERSPACE,
        gre_key=1,
        ttl=64,
        mtu_octets=1372,
        mss_v4_octets=1332,
        mss_v6_octets=1312,
        overlay=(OVERLAY,),
        addresses=(own,),
        uplinks=("isp1",),
        hubs=hubs,
        nhrp=Nhrp(
            holding_time_s=600,
            registration_s=200,
            authentication=b"secret",
            phase=3,
            redirect=role is Role.HUB,
            shortcut=role is Role.SPOKE,
        ),
        routing=Protocol.BGP,
        bgp=bgp,
        ospf=None,
        bandwidth_bps=100_000_000,
        nflog_group=10,
    )


def _plan(router: str, site: str, asn: int, number: int, lan: str, uplink: Uplink, cloud: Cloud) -> Plan:
    network = IPv4Network(lan)
    return Plan(
        network="acme",
        domain="example.net",
        router=router,
        site=site,
        platform=Platform.DEBIAN,
        asn=asn,
        prefixes=PREFIXES,
        transport=IPv4Address(f"100.64.0.{number}"),
        transport_range=TRANSPORT,
        serves=(network,),
        uplinks=(uplink,),
        lans=(Lan("lan", "eth1", network, IPv4Interface(f"{network[1]}/{network.prefixlen}"), "lan"),),
        clouds=(cloud,),
        ike=_ike(router),
        registry=REGISTRY,
        openings=(),
        not_rendered=(),
    )


def hub() -> Plan:
    bgp = Bgp(
        asn=65000,
        router_id=HUB_OVERLAY,
        neighbors=(),
        listen=(OVERLAY,),
        announce=PREFIXES,
        accept=PREFIXES,
        refuse=(OVERLAY, TRANSPORT, ip_network("10.1.0.0/24")),
        keepalive_s=3,
        hold_s=9,
    )
    uplink = Uplink(
        "isp1",
        "eth0",
        (IPv4Interface("198.51.100.2/24"),),
        (ip_address("198.51.100.1"),),
        dhcp=False,
        public=None,
        mtu_octets=1500,
        metric=100,
        table=440001,
        mark=0x10000,
        watch=WATCH,
    )
    return _plan("hq1", "hq", 65000, 1, "10.1.0.0/24", uplink, _cloud(Role.HUB, HUB_OVERLAY, (), bgp))


def spoke(number: int = 11) -> Plan:
    lan = ip_network(f"10.1.{number}.0/24")
    bgp = Bgp(
        asn=65000 + number,
        router_id=IPv4Address(f"10.255.1.{number}"),
        neighbors=(BgpNeighbor(HUB_OVERLAY, 65000, "hq1"),),
        listen=(),
        announce=(lan,),
        accept=PREFIXES,
        refuse=(),
        keepalive_s=3,
        hold_s=9,
    )
    at_hub = Hub(
        router="hq1",
        ours=True,
        overlay=(HUB_OVERLAY,),
        nbma=IPv4Address("100.64.0.1"),
        endpoints=(ip_address("198.51.100.2"),),
        asn=65000,
    )
    uplink = Uplink(
        "isp1",
        "eth0",
        (IPv4Interface("192.168.1.2/24"),),
        (ip_address("192.168.1.1"),),
        dhcp=False,
        public=None,
        mtu_octets=1500,
        metric=100,
        table=440001,
        mark=0x10000,
        watch=WATCH,
    )
    own = IPv4Address(f"10.255.1.{number}")
    cloud = _cloud(Role.SPOKE, own, (at_hub,), bgp)
    return _plan(f"sp{number}", f"site{number}", 65000 + number, number, str(lan), uplink, cloud)


def dual_stack_hub() -> Plan:
    """The hub with an IPv6 overlay beside the IPv4 one, and a second hub."""
    plan = hub()
    cloud = plan.clouds[0]
    assert cloud.bgp is not None
    six = ip_network("fd00:255:1::/64")
    bgp = replace(
        cloud.bgp,
        neighbors=(
            BgpNeighbor(ip_address("10.255.1.2"), 65000, "hq2"),
            BgpNeighbor(ip_address("fd00:255:1::2"), 65000, "hq2"),
        ),
        listen=(OVERLAY, six),
        announce=(*PREFIXES, ip_network("fd00::/8")),
        accept=(*PREFIXES, ip_network("fd00::/8")),
        refuse=(*cloud.bgp.refuse, six),
    )
    cloud = replace(cloud, overlay=(OVERLAY, six), addresses=(HUB_OVERLAY, ip_address("fd00:255:1::1")), bgp=bgp)
    return replace(plan, clouds=(cloud,), prefixes=(*PREFIXES, ip_network("fd00::/8")))


# What a hub learns of spoke() and of another one.
LEARNED: Learned = {
    "blue": tuple(
        Spoke(f"sp{number}", (IPv4Address(f"10.255.1.{number}"),), 65000 + number, (ip_network(f"10.1.{number}.0/24"),))
        for number in (11, 12)
    )
}
