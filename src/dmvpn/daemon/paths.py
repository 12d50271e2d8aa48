"""One router's part of a path: what its kernel does with packets there, and how far a direct way has come."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, TypeVar

from dmvpn.daemon import uplink_views
from dmvpn.daemon.cloud import Cloud
from dmvpn.daemon.control import PathView, State, Step, WhyNot
from dmvpn.daemon.nat_reasons import no_security
from dmvpn.daemon.node import Node
from dmvpn.daemon.settings import HubSettings
from dmvpn.errors import Fault
from dmvpn.linux.netlink import Requests
from dmvpn.linux.route_lookup import lookup
from dmvpn.linux.routes import TABLE_LOCAL, TABLE_MAIN, RouteKind, RouteRow, is_shortcut
from dmvpn.nhrp.shortcut import ShortcutState
from dmvpn.nhrp.shortcut import WhyNot as EngineWhyNot
from dmvpn.nhrp.view import BindingRow, ShortcutRow, View

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
T = TypeVar("T")

TEXTS = ("router", "destination", "device", "gateway", "table", "via", "detail")
TEXT_LIMIT = 500
STEPS_LIMIT = 32
NEXT_HOPS_NAMED_IN_PHASE = 2  # routing gives the far spoke as next hop, and NHRP where that is
IN_PROGRESS = (WhyNot.CONNECTING, WhyNot.PROBING, WhyNot.RESOLVING, WhyNot.PATH_DEAD)

# The engine's words and the operator's; a test holds them complete.
WHY: dict[EngineWhyNot, WhyNot] = {
    EngineWhyNot.DIRECT: WhyNot.DIRECT,
    EngineWhyNot.ASKING: WhyNot.RESOLVING,
    EngineWhyNot.NO_HUB: WhyNot.NO_HUB,
    EngineWhyNot.NO_ANSWER: WhyNot.NO_ANSWER,
    EngineWhyNot.UNREACHABLE: WhyNot.UNREACHABLE,
    EngineWhyNot.NO_BINDING: WhyNot.NO_BINDING,
    EngineWhyNot.REFUSED_BY_PEER: WhyNot.REFUSED_BY_PEER,
    EngineWhyNot.VIA_HUB: WhyNot.HUB,
    EngineWhyNot.CONNECTING: WhyNot.CONNECTING,
    EngineWhyNot.NO_SECURITY: WhyNot.NO_SECURITY,
    EngineWhyNot.NOT_AUTHORISED: WhyNot.NOT_AUTHORISED,
    EngineWhyNot.PROBING: WhyNot.PROBING,
    EngineWhyNot.NO_PROBE_ANSWER: WhyNot.NO_PROBE_ANSWER,
    EngineWhyNot.PATH_DEAD: WhyNot.PATH_DEAD,
    EngineWhyNot.KERNEL_REFUSED: WhyNot.KERNEL_REFUSED,
}


def path_view(node: Node, destination: Address, site: Sequence[Network] = ()) -> PathView:
    """`site` are the networks of the place that is meant: a shortcut to any host of it tells how things are.

    Raises Fault only if the kernel cannot be asked.
    """
    with Requests() as requests:
        row = lookup(requests, destination)
    if row is None:
        return _no_route(node, destination)
    cloud = next((one for one in node.clouds.values() if one.settings.device == row.device), None)
    if row.kind is RouteKind.LOCAL or cloud is None:
        return _arrived(node, destination, row)
    return _through(node, cloud, destination, row, site)


def _no_route(node: Node, destination: Address) -> PathView:
    """Routes come from the hubs: how far each of them is tells why there is none."""
    router = node.settings.router
    steps: list[Step] = []
    for cloud in node.clouds.values():
        steps.append(_underlay(node, cloud))
        for hub in cloud.settings.hubs:
            if not cloud.settings.encrypted:
                continue
            standing = cloud.standing(hub.nbma)
            tries, _ = node.ike.tried(hub.nbma)
            what = f"SA with {hub.router}" if standing else f"no SA with {hub.router} after {tries} tries"
            steps.append(Step(router, "IKE", good=standing is not None, what=what))
    steps.append(Step(router, "ROUTE", good=False, what=f"no route to {destination}: routing has not brought one"))
    return _view(node, destination, State.DOWN, WhyNot.NO_ROUTE, steps=tuple(steps))


def _arrived(node: Node, destination: Address, row: RouteRow) -> PathView:
    what = "is this router's own" if row.kind is RouteKind.LOCAL else f"is behind {row.device}"
    step = Step(node.settings.router, "ROUTE", good=True, what=f"{destination} {what}")
    return _view(node, destination, State.DIRECT, WhyNot.DIRECT, row=row, steps=(step,), arrived=True)


def _through(node: Node, cloud: Cloud, destination: Address, row: RouteRow, site: Sequence[Network]) -> PathView:
    gateway = destination if row.gateway is None else cloud.overlay_of(row.gateway)
    view = cloud.engine.view(node.now())
    shortcut = _shortcut_towards(view, destination, site)
    hub = next((one for one in cloud.settings.hubs if gateway in one.overlay), None)
    if hub is None and cloud.settings.role == "spoke" and cloud.settings.nhrp.phase == NEXT_HOPS_NAMED_IN_PHASE:
        shortcut = next((one for one in view.shortcuts if gateway in one.prefix), None)
        if shortcut is None or shortcut.state is not ShortcutState.UP:
            hub = _relay(cloud, view)
            gateway = hub.overlay[0] if hub is not None else gateway
    nbma = next((one.nbma for one in view.bindings if one.protocol == gateway), None)
    if nbma is None and shortcut is not None and shortcut.gateway == gateway:
        nbma = shortcut.nbma
    if hub is not None:
        nbma = hub.nbma
    direct = is_shortcut(row) or hub is None
    state = State.DIRECT if direct else State.VIA_HUB
    why, detail = (WhyNot.DIRECT, "") if direct else _why(node, cloud, gateway, view, shortcut)
    if not direct and why is WhyNot.DIRECT:
        why, detail = WhyNot.OVERRULED, f"{row.prefix} via {gateway}, metric {row.metric}"
        if shortcut is not None and destination not in shortcut.prefix:  # to another network of that site
            why, detail = WhyNot.NOTHING_SENT, ""
    if destination == gateway:
        state, why, detail = State.DIRECT, WhyNot.HUB if hub is not None else WhyNot.DIRECT, ""
    steps = _steps(node, cloud, gateway, nbma, row, view.bindings, shortcut)
    if not all(step.good for step in steps):
        state = State.DOWN
    name = cloud.authority.name(nbma) if nbma is not None else ""
    return _view(
        node,
        destination,
        state,
        why,
        row=row,
        steps=steps,
        cloud=cloud,
        gateway=str(gateway),
        via=name or (hub.router if hub else ""),
        detail=detail,
    )


def _relay(cloud: Cloud, view: View) -> HubSettings | None:
    """The hub that takes packets for a next hop without a direct path."""
    up = {one.nbma for one in view.hubs if one.is_up}
    return next((one for one in cloud.settings.hubs if one.nbma in up), None)


def _shortcut_towards(view: View, destination: Address, site: Sequence[Network]) -> ShortcutRow | None:
    alike = [one for one in view.shortcuts if one.prefix.version == destination.version]
    covering = next((one for one in alike if destination in one.prefix), None)
    if covering is not None:
        return covering
    return next((one for one in alike if any(one.destination in net for net in site)), None)


def _why(node: Node, cloud: Cloud, gateway: Address, view: View, shortcut: ShortcutRow | None) -> tuple[WhyNot, str]:
    if cloud.settings.nhrp.phase == 1:
        return WhyNot.PHASE_1, ""
    down = next((one for one in view.hubs if gateway in one.protocol and not one.is_up), None)
    if down is not None:
        return WhyNot.NO_HUB, f"{down.name}: {down.reason}" if down.reason else down.name
    if shortcut is None:
        return WhyNot.NOTHING_SENT, ""
    why, detail = why_not(node, view, shortcut)
    if detail:
        return why, detail
    tries, remotes = node.ike.tried(shortcut.nbma) if shortcut.nbma is not None else (0, ())
    where = ", ".join(f"{remote.host} port {remote.port}" for remote in remotes)
    if remotes and why is WhyNot.CONNECTING:
        return why, f"{tries} tries at {where}"
    return why, "the hub relays meanwhile" if why in IN_PROGRESS else ""


def why_not(node: Node, view: View, shortcut: ShortcutRow) -> tuple[WhyNot, str]:
    """In the operator's words; with details where the engine cannot know them."""
    why = WHY[shortcut.why]
    return no_security(view, shortcut, node.authority.name) if why is WhyNot.NO_SECURITY else (why, "")


def _steps(
    node: Node,
    cloud: Cloud,
    gateway: Address,
    nbma: Address | None,
    row: RouteRow,
    bindings: tuple[BindingRow, ...],
    shortcut: ShortcutRow | None,
) -> tuple[Step, ...]:
    router = node.settings.router
    steps = [_underlay(node, cloud)]
    standing = cloud.standing(nbma)
    if not cloud.settings.encrypted:
        what = f"in clear to {nbma}" if standing else f"the file lists no member at {nbma or gateway}"
    elif standing is not None:
        what = f"SA with {standing.remote_id} at {standing.remote.host} port {standing.remote.port}"
    else:
        what = f"no SA with {nbma or gateway}"
    steps.append(Step(router, "IKE", good=standing is not None, what=what))
    bound = any(one.protocol == gateway for one in bindings) or (shortcut is not None and shortcut.gateway == gateway)
    steps.append(Step(router, "NHRP", good=bound, what=f"{gateway} is " + (f"at {nbma}" if bound else "not known")))
    table = "a shortcut" if is_shortcut(row) else "main table"
    steps.append(Step(router, "ROUTE", good=True, what=f"{row.prefix} via {gateway} on {row.device}, {table}"))
    mtu = cloud.settings.mtu_octets
    steps.append(Step(router, "MTU", good=True, what=f"{mtu} octets fit {cloud.settings.device}"))
    return tuple(steps)


def _underlay(node: Node, cloud: Cloud) -> Step:
    uplinks = [uplink for uplink in node.settings.uplinks if uplink.name in cloud.settings.uplinks]
    up = [uplink.name for uplink in uplinks if (link := node.routewatch.link(uplink.device)) is not None and link.up]
    # Where nobody watches them they are online as long as their devices are up.
    states = {row.name: row.state for row in node.uplinks.rows({})}
    away = {name: states[name] for name in up if name in states and states[name] not in uplink_views.UP}
    up = [name for name in up if name not in away]
    what = f"uplink {', '.join(up)} is up" if up else f"no uplink of {cloud.settings.name} is up"
    what += "".join(f", {name} is {state}" for name, state in away.items())
    return Step(node.settings.router, "UNDERLAY", good=bool(up), what=what)


def _view(
    node: Node,
    destination: Address,
    state: State,
    why: WhyNot,
    *,
    steps: tuple[Step, ...],
    row: RouteRow | None = None,
    cloud: Cloud | None = None,
    gateway: str = "",
    via: str = "",
    detail: str = "",
    arrived: bool = False,
) -> PathView:
    names = {TABLE_MAIN: "main", TABLE_LOCAL: "local"}
    table = "" if row is None else "shortcut" if is_shortcut(row) else names.get(row.table, str(row.table))
    return PathView(
        router=node.settings.router,
        destination=str(destination),
        device=(row.device or "") if row else "",
        gateway=gateway,
        table=table,
        state=state,
        via=via,
        why=why,
        detail=detail,
        mtu_octets=cloud.settings.mtu_octets if cloud else 0,
        arrived=arrived,
        steps=steps,
    )


def silent(router: str, destination: str, why: str) -> PathView:
    """The part of a router that could not be asked."""
    step = Step(router, "UP", good=False, what=why)
    return PathView(
        router, destination, "", "", "", State.DOWN, "", WhyNot.FAR_SIDE_SILENT, "", 0, arrived=True, steps=(step,)
    )


def from_wire(answer: object) -> PathView:
    """Another router's answer, every field held to its type. Raises Fault: a peer's octets are input."""
    try:
        fields = _fields(answer, TEXTS)
        steps = fields["steps"]
        if not isinstance(steps, list) or len(steps) > STEPS_LIMIT:
            raise TypeError("steps")
        return PathView(
            **{name: fields[name] for name in TEXTS},
            state=State(fields["state"]),
            why=WhyNot(fields["why"]),
            mtu_octets=_typed(fields["mtu_octets"], int),
            arrived=_typed(fields["arrived"], bool),
            steps=tuple(
                Step(**{name: step[name] for name in ("router", "layer", "what")}, good=_typed(step["good"], bool))
                for step in (_fields(one, ("router", "layer", "what")) for one in steps)
            ),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Fault("other router", f"answered something else than a path: {error!r}") from error


def _fields(value: object, texts: tuple[str, ...]) -> dict[str, Any]:
    fields = _typed(value, dict)
    for name in texts:
        if len(_typed(fields[name], str)) > TEXT_LIMIT:
            raise ValueError(f"{name} is too long")
    return fields


def _typed(value: object, kind: type[T]) -> T:
    # bool is an int to isinstance().
    if type(value) is not kind:
        raise TypeError(f"{value!r:.40} is no {kind.__name__}")
    return value
