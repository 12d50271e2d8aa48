"""nftables: the guards that keep GRE inside ESP, the hairpin log, the MSS clamp. nft(8).

One table of our own, replaced in one transaction: there is no moment without the guards, and nobody else's rules are
touched. Named counters are what `status` shows.
"""

from dmvpn.network.plan import Cloud, Plan
from dmvpn.render.layout import Layout
from dmvpn.render.result import Change, Check, File, Rendered, Unit
from dmvpn.render.words import header, word

NAME = "nftables"
FILE = "nftables.nft"

# charon's kernel-libipsec compiles this name in.
IPSEC_DEVICE = "ipsec0"

# One log for each pair of hosts at once, then one a second while they still take the detour: the first packet starts
# the shortcut, a lost indication is repeated soon. The engine limits again, by what it knows of the sender.
HAIRPIN_PAIR_LIMIT = "limit rate 1/second burst 2 packets"
# A scan through the hub makes a pair of every packet; beyond this, indications are lost, packets are not.
HAIRPIN_TOTAL_LIMIT = "limit rate 500/second burst 500 packets"
HAIRPIN_PAIRS = 16384
# RFC 2332 5.2.7 wants the packet's internetwork header and 8 octets at least; IPv6 with TCP fits.
SNAPLEN_OCTETS = 128


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
    lines += _counters(clouds)
    for cloud in clouds:
        if cloud.nhrp.redirect:
            lines += _pair_sets(cloud)
    lines += _guards(plan)
    lines += _hairpins(clouds)
    lines += _clamps(clouds)
    return "\n".join([*lines, "}"]) + "\n"


def _counters(clouds: tuple[Cloud, ...]) -> list[str]:
    names = ["gre_clear_out", "gre_clear_in", "transport_forwarded"]
    for cloud in clouds:
        cloud_name = word(cloud.name, "cloud")
        names += [f"hairpin_{cloud_name}"] if cloud.nhrp.redirect else []
        names += [f"mss_{cloud_name}"]
    return [f"\tcounter {name} {{ }}" for name in names]


def _guards(plan: Plan) -> list[str]:
    """GRE between transport addresses travels in ESP or not at all; GRE of the host's own is none of our business.

    Three chains, since a packet of ours can be sent by us, arrive for us, or be smuggled through us by a LAN host.
    """
    family = "ip" if plan.transport.version == 4 else "ip6"
    ours = word(plan.transport_range, "transport")
    gre = "meta l4proto gre"
    drop_out = "counter name gre_clear_out drop"
    drop_in = "counter name gre_clear_in drop"
    drop_through = "counter name transport_forwarded drop"
    return [
        "\tchain guard_out {",
        "\t\ttype filter hook output priority filter; policy accept;",
        f'\t\toifname != "{IPSEC_DEVICE}" {gre} {family} daddr {ours} {drop_out}',
        f'\t\toifname != "{IPSEC_DEVICE}" {gre} {family} saddr {ours} {drop_out}',
        "\t}",
        "\tchain guard_in {",
        "\t\ttype filter hook prerouting priority raw; policy accept;",
        f'\t\tiifname != "{IPSEC_DEVICE}" {gre} {family} daddr {ours} {drop_in}',
        f'\t\tiifname != "{IPSEC_DEVICE}" {gre} {family} saddr {ours} {drop_in}',
        "\t}",
        "\tchain guard_through {",
        "\t\ttype filter hook forward priority filter; policy accept;",
        f"\t\t{family} daddr {ours} {drop_through}",
        f"\t\t{family} saddr {ours} {drop_through}",
        "\t}",
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


def _hairpins(clouds: tuple[Cloud, ...]) -> list[str]:
    """What a hub sends back where it came from: the head goes to dmvpnd, which tells the sender of a better way."""
    lines = ["\tchain hairpin {", "\t\ttype filter hook forward priority filter + 10; policy accept;"]
    for cloud in clouds:
        if not cloud.nhrp.redirect:
            continue
        name, device = word(cloud.name, "cloud"), word(cloud.device, "device")
        back = f'iifname "{device}" oifname "{device}"'
        lines.append(f"\t\t{back} counter name hairpin_{name}")
        lines += [
            f"\t\t{back} update @pairs_{family}_{name} {{ {family} saddr . {family} daddr {HAIRPIN_PAIR_LIMIT} }}"
            f" {HAIRPIN_TOTAL_LIMIT} log group {cloud.nflog_group} snaplen {SNAPLEN_OCTETS}"
            for family in _families(cloud)
        ]
    return [*lines, "\t}"]


def _clamps(clouds: tuple[Cloud, ...]) -> list[str]:
    """TCP learns the tunnel's size from both SYNs, since ICMP does not always come through to a host. RFC 4459 3.2."""
    lines = ["\tchain clamp {", "\t\ttype filter hook forward priority mangle; policy accept;"]
    for cloud in clouds:
        name, device = word(cloud.name, "cloud"), word(cloud.device, "device")
        for nfproto, mss in (("ipv4", cloud.mss_v4_octets), ("ipv6", cloud.mss_v6_octets)):
            lines += [
                f'\t\t{direction} "{device}" meta nfproto {nfproto} tcp flags syn / syn,rst'
                f" tcp option maxseg size > {mss} tcp option maxseg size set {mss} counter name mss_{name}"
                for direction in ("iifname", "oifname")
            ]
    return [*lines, "\t}"]
