"""Tables and rules of several uplinks: made room for before dmvpnd comes, and taken away with the network."""

from dmvpn.network.plan import Plan
from dmvpn.render.layout import Layout
from dmvpn.render.result import Change, Needs, Rendered, Unit

NAME = "uplinks"


def render(plan: Plan, layout: Layout) -> Rendered:
    """What is in the tables is dmvpnd's, which knows the uplinks' states; so the unit has no file."""
    if len(plan.uplinks) < 2:
        return Rendered(engine=NAME, files=())
    registry = plan.registry
    numbers = (registry.route_protocol, registry.uplink_priority, registry.uplink_mask, registry.uplink_tables)
    pairs = (f"{uplink.table}:{uplink.mark}" for uplink in plan.uplinks)
    static = [f"{gateway.version}:{uplink.metric}" for uplink in plan.uplinks for gateway in uplink.gateways]
    rest = (*map(str, numbers), ",".join(static) or "-", *pairs)
    keep = ("python3", "-m", "dmvpn.linux.uplink_tables", "keep", *rest)
    return Rendered(
        engine=NAME,
        files=(),
        units=(
            Unit(
                name=f"dmvpn-{plan.network}-uplinks",
                argv=keep,
                package="opendmvpn",
                daemon=False,
                reload=keep,
                stop=("python3", "-m", "dmvpn.linux.uplink_tables", "remove", *rest),
                on_change=Change.RELOAD,
                needs=Needs(capabilities=("NET_ADMIN",), families=("NETLINK",)),
            ),
        ),
    )
