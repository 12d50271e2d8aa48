"""One router's part of a path: what its kernel does with packets there, and how far a direct way has come."""

from ipaddress import IPv4Address, IPv6Address
from typing import Any

from dmvpn.daemon.cloud import Cloud
from dmvpn.daemon.control import PathView, State, Step, WhyNot
from dmvpn.daemon.node import Node
from dmvpn.errors import Fault
from dmvpn.linux.netlink import Requests
from dmvpn.linux.route_lookup import lookup
from dmvpn.linux.routes import RouteKind, RouteRow
from dmvpn.nhrp.shortcut import WhyNot as EngineWhyNot
from dmvpn.nhrp.view import BindingRow, ShortcutRow

Address = IPv4Address | IPv6Address

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


def path_view(node: Node, destination: Address) -> PathView:
    """Raises Fault only if the kernel cannot be asked."""
    with Requests() as requests:
        row = lookup(requests, destination)
    if row is None:
        return _no_route(node, destination)
    cloud = next((one for one in node.clouds.values() if one.settings.device == row.device), None)
    if row.kind is RouteKind.LOCAL or cloud is None:
        return _arrived(node, destination, row)
    return _through(node, cloud, destination, row)


def _no_route(node: Node, destination: Address) -> PathView:
    step = Step(
        node.settings.router, "ROUTE", good=False, what=f"no route to {destination}: routing has not brought one"
    )
    return _view(node, destination, State.DOWN, WhyNot.NO_ROUTE, steps=(step,))


def _arrived(node: Node, destination: Address, row: RouteRow) -> PathView:
    what = "is this router's own" if row.kind is RouteKind.LOCAL else f"is behind {row.device}"
    step = Step(node.settings.router, "ROUTE", good=True, what=f"{destination} {what}")
    return _view(node, destination, State.DIRECT, WhyNot.DIRECT, row=row, steps=(step,), arrived=True)


def _through(node: Node, cloud: Cloud, destination: Address, row: RouteRow) -> PathView:
    gateway = row.gateway or destination
    view = cloud.engine.view(node.now())
    shortcut = next((one for one in view.shortcuts if destination in one.prefix), None)
    hub = next((one for one in cloud.settings.hubs if gateway in one.overlay), None)
    nbma = next((one.nbma for one in view.bindings if one.protocol == gateway), None)
    if nbma is None and shortcut is not None and shortcut.gateway == gateway:
        nbma = shortcut.nbma
    if hub is not None:
        nbma = hub.nbma
    direct = row.table == node.settings.shortcut_table or hub is None
    state = State.DIRECT if direct else State.VIA_HUB
    why, detail = (WhyNot.DIRECT, "") if direct else _why(node, cloud, destination, shortcut, gateway)
    if why in (WhyNot.CONNECTING, WhyNot.PROBING, WhyNot.RESOLVING):
        detail = detail or "the hub relays meanwhile"
    steps = _steps(node, cloud, gateway, nbma, row, view.bindings, shortcut)
    if not all(step.good for step in steps):
        state = State.DOWN
    name = node.authority.name(nbma) if nbma is not None else ""
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


def _why(
    node: Node, cloud: Cloud, destination: Address, shortcut: ShortcutRow | None, gateway: Address
) -> tuple[WhyNot, str]:
    if destination == gateway or cloud.settings.role == "hub":
        return WhyNot.HUB, ""
    if cloud.settings.nhrp.phase == 1:
        return WhyNot.PHASE_1, ""
    if shortcut is None:
        return WhyNot.NOTHING_SENT, ""
    why = WHY[shortcut.why]
    tries, remotes = node.ike.tried(shortcut.nbma) if shortcut.nbma is not None else (0, ())
    where = ", ".join(f"{remote.host} port {remote.port}" for remote in remotes)
    detail = f"{tries} tries at {where}" if remotes and why in (WhyNot.CONNECTING, WhyNot.NO_SECURITY) else ""
    return why, detail


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
    standing = node.ike.standing(nbma) if nbma is not None else None
    if standing is not None:
        what = f"SA with {standing.remote_id} at {standing.remote.host} port {standing.remote.port}"
    else:
        what = f"no SA with {nbma or gateway}"
    steps.append(Step(router, "IKE", good=standing is not None, what=what))
    bound = any(one.protocol == gateway for one in bindings) or (shortcut is not None and shortcut.gateway == gateway)
    steps.append(Step(router, "NHRP", good=bound, what=f"{gateway} is " + (f"at {nbma}" if bound else "not known")))
    table = "shortcut table" if row.table == node.settings.shortcut_table else f"table {row.table}"
    steps.append(Step(router, "ROUTE", good=True, what=f"{row.prefix} via {gateway} on {row.device}, {table}"))
    mtu = cloud.settings.mtu_octets
    steps.append(Step(router, "MTU", good=True, what=f"{mtu} octets fit {cloud.settings.device}"))
    return tuple(steps)


def _underlay(node: Node, cloud: Cloud) -> Step:
    uplinks = [uplink for uplink in node.settings.uplinks if uplink.name in cloud.settings.uplinks]
    up = [uplink.name for uplink in uplinks if (link := node.routewatch.link(uplink.device)) is not None and link.up]
    what = f"uplink {', '.join(up)} is up" if up else f"no uplink of {cloud.settings.name} is up"
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
    shortcut_table = node.settings.shortcut_table
    table = "" if row is None else "shortcut" if row.table == shortcut_table else str(row.table)
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
        router, destination, "", "", "", State.DOWN, "", WhyNot.FAR_SIDE_SILENT, why, 0, arrived=True, steps=(step,)
    )


def from_wire(answer: Any) -> PathView:
    """Another router's answer. Raises Fault if it is not a PathView: a peer's octets are input."""
    try:
        steps = tuple(Step(**{key: one[key] for key in Step.__dataclass_fields__}) for one in answer["steps"])
        fields = {key: answer[key] for key in PathView.__dataclass_fields__ if key not in ("steps", "state", "why")}
        return PathView(**fields, steps=steps, state=State(answer["state"]), why=WhyNot(answer["why"]))
    except (KeyError, TypeError, ValueError) as error:
        raise Fault("other router", f"answered something else than a path: {error!r}") from error
