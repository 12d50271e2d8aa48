"""What differs between two Plans of one router, in an operator's sentences. Facts are compared, not texts."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from enum import Enum
from ipaddress import IPv4Network, IPv6Network
from typing import Any, TypeVar

from dmvpn.network.comparison_words import SECRET, WORDS
from dmvpn.network.plan import (
    Admin,
    Bgp,
    Bond,
    Cloud,
    Gateway,
    Lan,
    Mark,
    Opening,
    Plan,
    Port,
    SiteSession,
    StaticRoute,
    Uplink,
    Vlan,
    Vrrp,
)
from dmvpn.network.policy_comparison import policy_sentences

Thing = TypeVar("Thing")


def sentences(old: Plan | None, new: Plan) -> tuple[str, ...]:
    """What changes for the router, without a full stop. Empty if the Plans agree."""
    if old is None:
        return tuple(_first(new))
    return tuple(_changed(old, new))


def _first(plan: Plan) -> Iterator[str]:
    yield f"{plan.router} becomes a router of {plan.network}, at site {plan.site}"
    for bond in plan.bonds:
        yield f"{plan.router} gains {_bond(bond)}"
    for uplink in plan.uplinks:
        yield f"{plan.router} gains {_uplink(uplink)}"
    for lan in plan.lans:
        yield f"{plan.router} gains {_lan(lan)}"
    for cloud in plan.clouds:
        yield f"{plan.router} gains {_cloud(cloud)}"
    yield from policy_sentences(plan.router, None, plan.policy)
    for route in plan.routes:
        yield f"{plan.router} gains {_route(route)}"
    for gateway in plan.vrrp.gateways if plan.vrrp is not None else ():
        yield f"{plan.router} gains {_gateway(gateway)}"
    for peer in plan.session.peers if plan.session is not None else ():
        yield f"{plan.router} gains BGP with {peer.router} ({peer.address}), which is in other clouds"
    yield from adopting(plan)


def adopting(plan: Plan, already: Sequence[str] = ()) -> Iterator[str]:
    """What becomes of services of the host's own, beyond those that are adopted already."""
    for name in plan.adopts:
        if name not in already:
            yield f"{plan.router} adopts {name}: the machine's own is stopped and masked; uninstall brings it back"


def _changed(old: Plan, new: Plan) -> Iterator[str]:
    router = new.router
    yield from _keyed(router, old.bonds, new.bonds, lambda one: one.name, _bond, "bond")
    told = {uplink.device for uplink in new.uplinks}
    yield from _known(router, old.ports, new.ports, "port", told)
    yield from _known(router, old.vlans, new.vlans, "VLAN", told)
    yield from _keyed(router, old.uplinks, new.uplinks, lambda one: one.name, _uplink, "uplink", _inside_uplink)
    yield from _keyed(router, old.lans, new.lans, lambda one: one.name, _lan, "network")
    yield from _keyed(router, old.clouds, new.clouds, lambda one: one.name, _cloud, "cloud", _inside_cloud)
    yield from _keyed(router, old.routes, new.routes, lambda one: str(one.prefix), _route, "route")
    yield from _optional(router, old.vrrp, new.vrrp, "VRRP", _inside_vrrp)
    yield from _optional(router, old.session, new.session, "BGP with the site's other routers", _inside_session)
    yield from _facts(router, old, new)
    yield from _facts(f"{router}: IKE", old.ike, new.ike)
    yield from _keyed(router, old.openings, new.openings, _purpose, _opening, "opening")
    yield from policy_sentences(router, old.policy, new.policy)
    yield from _facts(f"{router}: registry", old.registry, new.registry)
    yield from _facts(f"{router}: the machine", old.host, new.host)
    yield from _keyed(
        router, old.host.admins, new.host.admins, _admin, lambda one: f"the login of {_admin(one)}", "login"
    )
    yield from adopting(new, old.adopts)
    yield from (f"{router} adopts {name} no more: it comes back" for name in old.adopts if name not in new.adopts)


def _known(
    subject: str, old: Sequence[Vlan] | Sequence[Port], new: Sequence[Vlan] | Sequence[Port], kind: str, told: set[str]
) -> Iterator[str]:
    """Those that come and go are told with the uplink or network on them, and so is all of an uplink's own."""
    before = {one.name: one for one in old}
    for one in new:
        if one.name in before and one.name not in told:
            yield from _facts(f"{subject}: {kind} {one.name}", before[one.name], one)


def _inside_uplink(subject: str, old: Uplink, new: Uplink) -> Iterator[str]:
    yield from _facts(subject, old.watch, new.watch)
    if old.watch.targets and not new.watch.targets:
        yield f"{subject} counts as up from now on as long as it has carrier and address"
    yield from _optional(subject, old.pppoe, new.pppoe, "PPPoE")
    if old.carrier != new.carrier and new.carrier != new.device:  # else its device has changed, which is said
        yield f"{subject}: Ethernet device {old.carrier} becomes {new.carrier}"


def _inside_cloud(subject: str, old: Cloud, new: Cloud) -> Iterator[str]:
    yield from _keyed(subject, old.hubs, new.hubs, lambda one: one.router, lambda one: f"hub {one.router}", "hub")
    yield from _facts(f"{subject}: NHRP", old.nhrp, new.nhrp)
    yield from _optional(subject, old.bgp, new.bgp, "BGP", _inside_bgp)
    yield from _optional(subject, old.ospf, new.ospf, "OSPF")
    yield from _optional(subject, old.rip, new.rip, "RIP")
    yield from _optional(subject, old.bfd, new.bfd, "BFD")
    yield from _keyed(
        subject, old.foreign, new.foreign, lambda one: one.router, lambda one: f"foreign peer {one.router}", "peer"
    )


def _inside_bgp(subject: str, old: Bgp, new: Bgp) -> Iterator[str]:
    yield from _keyed(
        subject,
        old.neighbors,
        new.neighbors,
        lambda one: str(one.address),
        lambda one: f"neighbour {one.name} ({one.address})",
        "neighbour",
    )


def _inside_vrrp(subject: str, old: Vrrp, new: Vrrp) -> Iterator[str]:
    yield from _keyed(subject, old.gateways, new.gateways, lambda one: str(one.address), _gateway, "gateway")


def _inside_session(subject: str, old: SiteSession, new: SiteSession) -> Iterator[str]:
    yield from _keyed(
        subject,
        old.peers,
        new.peers,
        lambda one: str(one.address),
        lambda one: f"neighbour {one.router} ({one.address})",
        "neighbour",
    )
    yield from _optional(subject, old.bfd, new.bfd, "BFD")


Inside = Callable[[str, Any, Any], Iterator[str]]


def _nothing_inside(_subject: str, _old: Any, _new: Any) -> Iterator[str]:
    yield from ()


def _keyed(
    subject: str,
    old: Sequence[Thing],
    new: Sequence[Thing],
    key: Callable[[Thing], str],
    named: Callable[[Thing], str],
    kind: str,
    inside: Inside = _nothing_inside,
) -> Iterator[str]:
    """Members that come, go or change."""
    before, after = {key(one): one for one in old}, {key(one): one for one in new}
    yield from (f"{subject} gains {named(one)}" for name, one in after.items() if name not in before)
    yield from (f"{subject} loses {named(one)}" for name, one in before.items() if name not in after)
    for name, one in after.items():
        if name in before:
            at = f"{subject}: {kind} {name}"
            yield from _facts(at, before[name], one)
            yield from inside(at, before[name], one)


def _optional(
    subject: str, old: Thing | None, new: Thing | None, name: str, inside: Inside = _nothing_inside
) -> Iterator[str]:
    if old is None and new is not None:
        yield f"{subject} gains {name}"
    elif old is not None and new is None:
        yield f"{subject} loses {name}"
    elif old is not None and new is not None:
        yield from _facts(f"{subject}: {name}", old, new)
        yield from inside(f"{subject}: {name}", old, new)


def _facts(subject: str, old: Any, new: Any) -> Iterator[str]:
    words = WORDS[Plan if isinstance(new, Plan) else type(new)]
    for field in fields(new):
        word = words.get(field.name, field.name)  # one that is new must not end a plan; the tests ask for its word
        before, after = getattr(old, field.name), getattr(new, field.name)
        if word is None or before == after:
            continue
        if field.name in SECRET:
            yield f"{subject}: {word} changes"
        elif isinstance(after, tuple) and set(before) != set(after):
            yield from _moved(f"{subject}: {word}", before, after)
        else:
            yield f"{subject}: {word} {_shown(before)} becomes {_shown(after)}"


def _moved(subject: str, before: tuple[Any, ...], after: tuple[Any, ...]) -> Iterator[str]:
    gained = [one for one in after if one not in before]
    lost = [one for one in before if one not in after]
    if len(gained) == len(lost) == 1:
        yield f"{subject} {_shown(lost[0])} becomes {_shown(gained[0])}"
        return
    if gained:
        yield f"{subject}: also {_shown(tuple(gained))}"
    if lost:
        yield f"{subject}: no longer {_shown(tuple(lost))}"


def _shown(value: Any) -> str:
    match value:
        case None | ():
            return "none"
        case bool():
            return "on" if value else "off"
        case tuple():
            return " ".join(map(_shown, value))
        case Enum():
            return str(value.value)
        case Mark():
            return f"{value.value:#x}/{value.mask:#x}"
        case _:
            return str(value)


def _bond(bond: Bond) -> str:
    return f"bond {bond.name} ({bond.mode.value} of {_shown(bond.members)})"


def _uplink(uplink: Uplink) -> str:
    ways = [_shown(uplink.addresses)] if uplink.addresses else []
    ways += ["by DHCP"] if uplink.dhcp else []
    ways += [f"PPPoE over {uplink.carrier}"] if uplink.pppoe is not None else []
    ways += ["IPv6 by advertisements"] if uplink.autoconf else []
    by = " and ".join(ways) or "no address"
    return f"uplink {uplink.name} ({by} on {uplink.device})"


def _lan(lan: Lan) -> str:
    vlan = lan.device.rpartition(".")[2] if "." in lan.device else ""
    prefix: IPv4Network | IPv6Network = lan.prefix
    return f"network {lan.name}{f' VLAN {vlan}' if vlan else ''} ({prefix} on {lan.device})"


def _cloud(cloud: Cloud) -> str:
    hubs = ", ".join(hub.router for hub in cloud.hubs)
    return f"cloud {cloud.name} as a {cloud.role.value} ({_shown(cloud.addresses)}{f', hubs {hubs}' if hubs else ''})"


def _route(route: StaticRoute) -> str:
    return f"route {route.prefix} by {route.via}"


def _gateway(gateway: Gateway) -> str:
    return f"the shared gateway {gateway.address.ip} of {gateway.network}"


def _admin(admin: Admin) -> str:
    """His account, and of his key what tells it from others to the eye: the comment, or its end."""
    words = admin.key.split()
    return f"{admin.account} ({words[-1][-24:] if words else 'no key'})"


def _purpose(opening: Opening) -> str:
    ports = f" {_shown(opening.ports)}" if opening.ports else ""
    return f"{opening.protocol}{ports} ({opening.why})"


def _opening(opening: Opening) -> str:
    return f"opening {_purpose(opening)}" + (f" on {_shown(opening.devices)}" if opening.devices else "")
