"""nftables: the guards that keep GRE inside ESP, the hairpin log, the MSS clamp. nft(8).

One table of our own, replaced in one transaction: there is no moment without the guards, and nobody else's rules are
touched. Named counters are what `status` shows.
"""

from dmvpn.network.plan import Cloud, Plan, Plane
from dmvpn.render import internet_only, nft_policy, nft_uplinks
from dmvpn.render.layout import Layout
from dmvpn.render.result import Change, Check, File, Needs, Rendered, Unit
from dmvpn.render.words import header, word

NAME = "nftables"
FILE = "nftables.nft"

# One log for each pair of hosts at once, then one a second while they still take the detour: the first packet starts
# the shortcut, a lost indication is repeated soon. The engine limits again, by what it knows of the sender.
HAIRPIN_PAIR_LIMIT = "limit rate 1/second burst 2 packets"
# A scan through the hub makes a pair of every packet; beyond this, indications are lost, packets are not.
HAIRPIN_TOTAL_LIMIT = "limit rate 500/second burst 500 packets"
HAIRPIN_PAIRS = 16384
# RFC 2332 5.2.7 wants the packet's internetwork header and 8 octets at least; IPv6 with TCP fits.
SNAPLEN_OCTETS = 128

# Who had traffic lately, for dmvpnd: it looks every few seconds, so a pause of that length is no end.
USED_SET = "used"
USED_S = 30
USED_SIZE = 16384


# RFC 5340 A.1, RFC 2080 2.5.
ALL_SPF_ROUTERS, ALL_RIP_ROUTERS = "ff02::5", "ff02::9"
MULTICAST = {"ip": "224.0.0.0/4", "ip6": "ff00::/8"}
_OTHER = "meta l4proto != gre"
_SYN = "tcp flags syn / syn,rst"
# Behind what drops: a packet that a policy refuses uses nothing, and is no detour.
LAST = "filter + 20"
# BFD (RFC 5881, RFC 5883), OSPF: between routers only, as is BGP.
OWN_TRAFFIC = ("udp dport { 3784, 3785, 4784 }", "meta l4proto 89")


def table(network: str) -> str:
    """The name of a network's table, for `nft list table inet NAME`."""
    return f"dmvpn_{word(network, 'network')}"


def render(plan: Plan, layout: Layout) -> Rendered:
    """The rule set of this router."""
    path = layout.current / FILE
    name = table(plan.network)
    load = ("nft", "-f", str(path))
    return Rendered(
        engine=NAME,
        files=(File(path.relative_to(layout.current), _text(plan, name)),),
        checks=(Check(("unshare", "--net", "nft", "--check", "--file", f"{{tree}}/{FILE}"), package="nftables"),),
        units=(
            Unit(
                name=f"dmvpn-{plan.network}-nftables",
                argv=load,
                package="nftables",
                daemon=False,
                reload=load,
                stop=("nft", "delete", "table", "inet", name),
                reads=(path.relative_to(layout.current),),
                on_change=Change.RELOAD,
                needs=Needs(capabilities=("NET_ADMIN",), families=("UNIX", "NETLINK")),
            ),
        ),
    )


def _text(plan: Plan, name: str) -> str:
    clouds = plan.clouds
    lines = [
        header(plan.network, plan.router),
        # Add, then delete, then define: the delete cannot fail, and all three are one transaction.
        f"add table inet {name}",
        f"delete table inet {name}",
        f"table inet {name} {{",
    ]
    lines += _counters(plan)
    for cloud in clouds:
        if cloud.nhrp.redirect:
            lines += _pair_sets(cloud)
    in_kernel = tuple(cloud for cloud in clouds if cloud.plane is Plane.KERNEL)
    for cloud in in_kernel:
        lines += _used_sets(cloud)
    lines += [*_guards(plan), *_own(plan), *_through(plan)]
    lines += internet_only.chains(plan)
    lines += nft_policy.lines(plan)
    lines += nft_uplinks.chains(plan)
    return "\n".join([*lines, "}"]) + "\n"


def _counters(plan: Plan) -> list[str]:
    names = ["gre_clear_out", "gre_clear_in", "transport_forwarded", *internet_only.counters(plan)]
    for cloud in plan.clouds:
        cloud_name = word(cloud.name, "cloud")
        names += [f"hairpin_{cloud_name}"] if cloud.nhrp.redirect else []
        names += [f"mss_{cloud_name}"]
        names += [f"multicast_{cloud_name}"] if cloud.plane is Plane.KERNEL else []
    return [f"\tcounter {name} {{ }}" for name in names]


def _guards(plan: Plan) -> list[str]:
    """GRE between transport addresses travels in ESP or not at all; GRE of the host's own is none of our business.

    A packet of ours can be sent by us (`_own`), arrive for us, or be smuggled through us by a LAN host (`_through`).
    Inside ESP it is on charon's device on the userspace plane, which has its group as soon as charon serves; on the
    kernel's it has a policy's SA ahead of it, or came out of one. There the key counts as well: the mGRE device has no
    address of its own and takes a packet from anywhere, and a foreign peer has no transport address.

    Every packet passes a hook, most of them several (in the tunnel, as GRE, as ESP), and each chain of a hook costs as
    much as some rules: so one for each hook, which lets go at once what it is not about.
    """
    keys = [cloud.gre_key for cloud in plan.clouds if cloud.plane is Plane.KERNEL and cloud.encrypted]
    in_kernel = any(cloud.plane is Plane.KERNEL for cloud in plan.clouds)
    group = plan.registry.ipsec_group
    safe_out = "rt ipsec exists" if in_kernel else f"meta oifgroup {group}"
    safe_in = "meta ipsec exists" if in_kernel else f"meta iifgroup {group}"
    clear_out = "rt ipsec missing" if in_kernel else f"meta oifgroup != {group}"
    clear_in = "meta ipsec missing" if in_kernel else f"meta iifgroup != {group}"
    family, ours = _transport(plan)
    gre = "meta l4proto gre"
    drop_out = "counter name gre_clear_out drop"
    drop_in = "counter name gre_clear_in drop"
    return [
        "\tchain gre_out {",
        f"\t\t{safe_out} return",
        f"\t\t{clear_out} {gre} {family} daddr {ours} {drop_out}",
        f"\t\t{clear_out} {gre} {family} saddr {ours} {drop_out}",
        *(f"\t\t{clear_out} {_with_key(key)} {gre} {drop_out}" for key in keys),
        "\t}",
        "\tchain guard_in {",
        "\t\ttype filter hook input priority raw; policy accept;",
        f"\t\t{_OTHER} return",
        f"\t\t{safe_in} return",
        f"\t\t{clear_in} {gre} {family} daddr {ours} {drop_in}",
        f"\t\t{clear_in} {gre} {family} saddr {ours} {drop_in}",
        *(f"\t\t{clear_in} {_with_key(key)} {gre} {drop_in}" for key in keys),
        "\t}",
    ]


def _transport(plan: Plan) -> tuple[str, str]:
    return "ip" if plan.transport.version == 4 else "ip6", word(plan.transport_range, "transport")


def _with_key(key: int | None) -> str:
    """GRE with this key, or with none: the third bit says that there is one, RFC 2890 2. One with a checksum before its
    key is not looked for: the device refuses it.

    Stands before `meta l4proto gre`: behind it nft 1.0.6 loads the rule but aborts when it lists it, since it knows no
    header of GRE's (payload_expr_complete).
    """
    return "@th,2,1 0" if key is None else f"@th,2,1 1 @th,32,32 {key:#x}"


def used_families(cloud: Cloud) -> tuple[str, ...]:
    """The families of next hops that a cloud on the kernel plane has a set for."""
    return tuple(_families(cloud)) if cloud.plane is Plane.KERNEL else ()


def used_set(cloud: Cloud, family: str) -> str:
    """The set of next hops that had traffic lately."""
    return f"{USED_SET}{'' if family == 'ip' else '6'}_{word(cloud.name, 'cloud')}"


def _used_sets(cloud: Cloud) -> list[str]:
    lines: list[str] = []
    for family in _families(cloud):
        lines += [
            f"\tset {used_set(cloud, family)} {{",
            f"\t\ttype {'ipv4_addr' if family == 'ip' else 'ipv6_addr'}",
            f"\t\tsize {USED_SIZE}",
            "\t\tflags dynamic,timeout",
            f"\t\ttimeout {USED_S}s",
            "\t}",
        ]
    return lines


def _own(plan: Plan) -> list[str]:
    """What this router sends: GRE by its guard, and what goes into a tunnel.

    A next hop with traffic keeps its shortcut. What routers say to each other is no traffic: it would keep all. And an
    mGRE device would send multicast to the group's own address on the underlay; dmvpnd sends each member a copy.
    """
    lines: list[str] = []
    clouds = tuple(cloud for cloud in plan.clouds if cloud.plane is Plane.KERNEL)
    for cloud in clouds:
        name = word(cloud.name, "cloud")
        drop = f"counter name multicast_{name} drop"
        bgp = [f"tcp {side} {cloud.bgp.port}" for side in ("dport", "sport")] if cloud.bgp is not None else []
        lines += [
            f"\tchain own_{name} {{",
            f"\t\tip daddr {MULTICAST['ip']} log group {cloud.multicast_group} {drop}",
            *_routers_multicast(cloud, drop),
            f"\t\tip6 daddr {MULTICAST['ip6']} {drop}",
            *(f"\t\t{own} return" for own in (*bgp, *OWN_TRAFFIC)),
            *(f"\t\t{_use(cloud, family)}" for family in _families(cloud)),
            "\t}",
        ]
    return [
        *lines,
        "\tchain guard_out {",
        f"\t\ttype filter hook output priority {LAST}; policy accept;",
        *(["\t\tmeta l4proto esp accept"] if clouds else []),  # most of what such a router sends itself
        "\t\tmeta l4proto gre goto gre_out",
        *(f"\t\t{_by('o', cloud)} goto own_{word(cloud.name, 'cloud')}" for cloud in clouds),
        "\t}",
    ]


def _routers_multicast(cloud: Cloud, drop: str) -> list[str]:
    """Copied by dmvpnd: what OSPFv3 and RIPng say to all routers. Other multicast of IPv6 is dropped: a tunnel has
    nobody whom neighbour discovery could ask.
    """
    if "ip6" not in _families(cloud):
        return []
    spoken = [f"{ALL_SPF_ROUTERS} meta l4proto 89"] if cloud.ospf is not None else []
    spoken += [f"{ALL_RIP_ROUTERS} udp dport 521"] if cloud.rip is not None else []
    return [f"\t\tip6 daddr {one} log group {cloud.multicast_group} {drop}" for one in spoken]


def _by(side: str, cloud: Cloud) -> str:
    """Into (`o`) or out of (`i`) the cloud's tunnel. Names are compared as text, so an mGRE device's type, which tells
    most packets apart, is asked first.
    """
    name = f'{side}ifname "{word(cloud.device, "device")}"'
    return name if cloud.plane is Plane.USERSPACE else f"{side}iftype ipgre {name}"


def _use(cloud: Cloud, family: str) -> str:
    return f"update @{used_set(cloud, family)} {{ rt {family} nexthop }}"


def _through(plan: Plan) -> list[str]:
    """What is forwarded: nothing from or to transport addresses, and what goes into a tunnel or comes out of one."""
    family, ours = _transport(plan)
    drop = "counter name transport_forwarded drop"
    lines: list[str] = []
    for cloud in plan.clouds:
        name = word(cloud.name, "cloud")
        others = [other for other in plan.clouds if other is not cloud]
        lines += [
            *_clamp(cloud),
            *_hairpin(cloud),
            f"\tchain to_{name} {{",
            *([f"\t\t{_by('i', cloud)} jump hairpin_{name}"] if cloud.nhrp.redirect else []),
            *_forwarded(cloud),
            *(f"\t\t{_by('i', other)} {_SYN} jump clamp_{word(other.name, 'cloud')}" for other in others),
            f"\t\t{_SYN} goto clamp_{name}",
            "\t}",
        ]
    clouds = {word(cloud.name, "cloud"): cloud for cloud in plan.clouds}
    return [
        *lines,
        "\tchain guard_through {",
        f"\t\ttype filter hook forward priority {LAST}; policy accept;",
        f"\t\t{family} daddr {ours} {drop}",
        f"\t\t{family} saddr {ours} {drop}",
        *(f"\t\t{_by('o', cloud)} goto to_{name}" for name, cloud in clouds.items()),
        *(f"\t\t{_by('i', cloud)} {_SYN} goto clamp_{name}" for name, cloud in clouds.items()),
        "\t}",
    ]


def _forwarded(cloud: Cloud) -> list[str]:
    if cloud.plane is not Plane.KERNEL:
        return []
    drop = f"counter name multicast_{word(cloud.name, 'cloud')} drop"
    return [
        f"\t\tip daddr {MULTICAST['ip']} log group {cloud.multicast_group} {drop}",
        f"\t\tip6 daddr {MULTICAST['ip6']} {drop}",
        *(f"\t\t{_use(cloud, family)}" for family in _families(cloud)),
    ]


def _families(cloud: Cloud) -> list[str]:
    versions = {address.version for address in cloud.addresses}
    # Hosts of either family may cross a cloud that has overlay addresses of it only.
    return [family for version, family in ((4, "ip"), (6, "ip6")) if version in versions]


def _pair_sets(cloud: Cloud) -> list[str]:
    lines: list[str] = []
    for family in _families(cloud):
        kind = "ipv4_addr" if family == "ip" else "ipv6_addr"
        lines += [
            f"\tset pairs_{family}_{word(cloud.name, 'cloud')} {{",
            f"\t\ttype {kind} . {kind}",
            f"\t\tsize {HAIRPIN_PAIRS}",
            "\t\tflags dynamic,timeout",
            "\t\ttimeout 10s",
            "\t}",
        ]
    return lines


def _hairpin(cloud: Cloud) -> list[str]:
    """What a hub sends back where it came from: the head goes to dmvpnd, which tells the sender of a better way."""
    if not cloud.nhrp.redirect:
        return []
    name = word(cloud.name, "cloud")
    return [
        f"\tchain hairpin_{name} {{",
        f"\t\tcounter name hairpin_{name}",
        *(
            f"\t\tupdate @pairs_{family}_{name} {{ {family} saddr . {family} daddr {HAIRPIN_PAIR_LIMIT} }}"
            f" {HAIRPIN_TOTAL_LIMIT} log group {cloud.nflog_group} snaplen {SNAPLEN_OCTETS}"
            for family in _families(cloud)
        ),
        "\t}",
    ]


def _clamp(cloud: Cloud) -> list[str]:
    """TCP learns the tunnel's size from both SYNs, since ICMP does not always come through to a host. RFC 4459 3.2."""
    name = word(cloud.name, "cloud")
    return [
        f"\tchain clamp_{name} {{",
        *(
            f"\t\tmeta nfproto {nfproto} tcp option maxseg size > {mss}"
            f" tcp option maxseg size set {mss} counter name mss_{name}"
            for nfproto, mss in (("ipv4", cloud.mss_v4_octets), ("ipv6", cloud.mss_v6_octets))
        ),
        "\t}",
    ]
