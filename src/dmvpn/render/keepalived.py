"""keepalived: the gateways that a site's routers share, by VRRP version 3. keepalived.conf(5), RFC 5798.

FRR's vrrpd wants a macvlan device for each gateway, with the group's own MAC; keepalived works on the network's device
as it is, and tells the LAN of a move by gratuitous ARP and neighbour advertisements. It knows nothing of tunnels:
`dmvpn.daemon.gateway` writes into a file that it watches how much less this router offers while it has none.
"""

from collections.abc import Iterator
from ipaddress import ip_interface

from dmvpn.network.plan import Gateway, Interface, Plan, Vrrp
from dmvpn.render.layout import Layout
from dmvpn.render.result import Change, Check, File, Needs, Rendered, Unit
from dmvpn.render.words import header, word

NAME = "keepalived"
FILE = "keepalived.conf"


def render(plan: Plan, layout: Layout) -> Rendered:
    """Nothing for a router that shares no gateway."""
    if plan.vrrp is None:
        return Rendered(engine=NAME, files=())
    path = layout.current / FILE
    own = f"dmvpn-{plan.network}"
    file = File(path.relative_to(layout.current), _conf(plan, plan.vrrp, layout))
    return Rendered(
        engine=NAME,
        files=(file,),
        checks=(Check(("keepalived", "--config-test", "--use-file", f"{{tree}}/{FILE}"), package="keepalived"),),
        units=(
            Unit(
                name=f"{own}-vrrp",
                argv=(
                    *("keepalived", "--vrrp", "--dont-fork", "--log-console", "--use-file", str(path)),
                    *("--pid", str(layout.run / "keepalived.pid"), "--vrrp_pid", str(layout.run / "vrrp.pid")),
                ),
                package="keepalived",
                ready=layout.run / "vrrp.pid",
                reads=(file.path,),
                on_change=Change.RELOAD,
                needs=Needs(
                    capabilities=("NET_ADMIN", "NET_RAW", "NET_BROADCAST", "KILL"),
                    families=("UNIX", "NETLINK", "INET", "INET6", "PACKET"),
                ),
            ),
            Unit(
                name=f"{own}-gateway",
                argv=(
                    *("python3", "-m", "dmvpn.daemon.gateway", str(layout.reading_socket)),
                    *(str(layout.gateway_track), str(-plan.vrrp.lost)),
                ),
                package="opendmvpn",
            ),
        ),
    )


def _conf(plan: Plan, vrrp: Vrrp, layout: Layout) -> str:
    lines = [header(plan.network, plan.router, "!")]
    lines += ["global_defs {", f"    router_id {word(plan.router, 'router')}"]
    # A VLAN may come after this starts.
    lines += ["    vrrp_version 3", "    dynamic_interfaces allow_if_changes", "}"]
    # What it offers less stands in a file, and at the start it is all: nothing is known of a tunnel yet.
    lines += ["track_file tunnels {", f"    file {layout.gateway_track}", "    weight 1"]
    lines += [f"    init_file {-vrrp.lost} overwrite", "}"]
    for gateway in vrrp.gateways:
        lines += _instance(vrrp, gateway)
    return "\n".join([*lines, ""])


def _instance(vrrp: Vrrp, gateway: Gateway) -> Iterator[str]:
    device = word(gateway.device, "device")
    yield f"vrrp_instance {word(gateway.network, 'network')}-{gateway.address.version} {{"
    yield "    state BACKUP"
    yield f"    interface {device}"
    yield f"    virtual_router_id {vrrp.group}"
    yield f"    priority {vrrp.priority}"
    yield f"    advert_int {vrrp.advertise_ms / 1000:g}"
    yield from (("    native_ipv6",) if gateway.address.version == 6 else ())
    yield from ("    track_file {", "        tunnels", "    }")
    yield "    virtual_ipaddress {"
    yield from (f"        {address} dev {device}" for address in virtual_addresses(vrrp, gateway))
    yield from ("    }", "}")


def virtual_addresses(vrrp: Vrrp, gateway: Gateway) -> tuple[Interface, ...]:
    """Of IPv6 a link-local one comes first, RFC 5798 5.2.9: the one that belongs to the group's MAC, as others use."""
    if gateway.address.version == 4:
        return (gateway.address,)
    return ip_interface(f"fe80::200:5eff:fe00:{0x200 + vrrp.group:x}/64"), gateway.address
