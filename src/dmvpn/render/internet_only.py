"""Networks of the zone internet-only, where the file has no policy: nothing but uplinks exchanges packets with them.

They are announced to nobody, so that no other site has a route back; but a router has routes to all that is internal,
and would forward what comes from them; and has services of its own. A rule per device and no list of prefixes: what is
internal may change. A policy keeps the zone apart by itself, and says so in `dmvpn firewall test`, unless the
operator's own rules let something in.
"""

from dmvpn.network.plan import Plan
from dmvpn.render.words import word

ZONE = "internet-only"
COUNTER = "internet_only"

# What holds the link together: answers, neighbours and multicast listeners (RFC 4861, RFC 3810), addresses for hosts.
LINK = (
    "ct state established,related accept",
    "icmpv6 type { 130, 131, 132, 143, 133, 134, 135, 136, 137 } accept",
    "meta l4proto igmp accept",
    "udp dport { 67, 547 } accept",
)
# Names, time, and whether the gateway is there; not at its addresses in other zones.
SERVED = tuple(
    f"fib daddr . iif type local {what} accept"
    for what in ("udp dport { 53, 123 }", "tcp dport 53", "icmp type echo-request", "icmpv6 type echo-request")
)


def devices(plan: Plan) -> tuple[str, ...]:
    if plan.policy is not None:
        return ()
    return tuple(dict.fromkeys(word(lan.device, "device") for lan in plan.lans if lan.zone == ZONE))


def counters(plan: Plan) -> list[str]:
    return [COUNTER] if devices(plan) else []


def chains(plan: Plan) -> list[str]:
    """Lines of the table; a rule of somebody else's cannot let pass what these drop."""
    if not devices(plan):
        return []
    guests = _set(devices(plan))
    uplinks = _set(tuple(word(uplink.device, "device") for uplink in plan.uplinks))
    # A guest's program is told at once, and does not wait.
    refuse = f"counter name {COUNTER} reject with icmpx type admin-prohibited"
    return [
        "\tchain internet_only {",
        "\t\ttype filter hook forward priority filter - 5; policy accept;",
        f"\t\tiifname {guests} oifname != {uplinks} {refuse}",
        f"\t\toifname {guests} iifname != {uplinks} counter name {COUNTER} drop",
        "\t}",
        "\tchain internet_only_in {",
        "\t\ttype filter hook input priority filter - 5; policy accept;",
        f"\t\tiifname != {guests} return",
        *(f"\t\t{served}" for served in (*LINK, *_between_routers(plan), *SERVED)),
        # Of what hosts cry out to all nobody is told, and nothing counted.
        "\t\tfib daddr type { broadcast, multicast } drop",
        f"\t\t{refuse}",
        "\t}",
    ]


def _between_routers(plan: Plan) -> list[str]:
    shared = {gateway.device for gateway in plan.vrrp.gateways} if plan.vrrp is not None else set()
    ours = tuple(device for device in devices(plan) if device in shared)
    return [f"iifname {_set(ours)} meta l4proto vrrp accept"] if ours else []


def _set(names: tuple[str, ...]) -> str:
    return "{ " + ", ".join(f'"{name}"' for name in names) + " }"
