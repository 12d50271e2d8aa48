"""The node's status, put together from the engines, charon, the data plane, the rule set and FRR."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from dmvpn.daemon import paper_troubles, shared_gateways, silent_hubs, uplink_views
from dmvpn.daemon.bgp import refusals, sessions
from dmvpn.daemon.cloud import Cloud
from dmvpn.daemon.control import (
    REMARK,
    SEVERE,
    WARNING,
    CacheRow,
    CloudRow,
    HubRow,
    NodeStatus,
    PeerRow,
    State,
    Trouble,
)
from dmvpn.daemon.guard_troubles import policies_troubles, rules_troubles
from dmvpn.daemon.node import SETTLED_S, Node
from dmvpn.daemon.orders import Remote, Up
from dmvpn.daemon.paths import why_not
from dmvpn.errors import Fault
from dmvpn.linux import kernel_facts, ruleset
from dmvpn.nhrp.cache import BindingKind
from dmvpn.nhrp.events import DropReason
from dmvpn.nhrp.registration_client import HubState
from dmvpn.nhrp.shortcut import ShortcutState
from dmvpn.nhrp.shortcut import WhyNot as EngineWhyNot
from dmvpn.nhrp.view import BindingRow, ShortcutRow, View
from dmvpn.nhrp.view import HubRow as EngineHubRow

KNOWN_DROPS = frozenset(DropReason)  # the engine counts these itself
KERNEL = "kernel"
NO_SA = "no SA stands"
PATIENCE_S = 10.0  # how long a shortcut may be on its way before it is worth a word
CISCO_LETTERS = {
    BindingKind.HUB: "S",
    BindingKind.REGISTERED: "D",
    BindingKind.REQUESTER: "DX",
    BindingKind.LOCAL: "SL",
}


async def status(node: Node) -> NodeStatus:
    """Everything `dmvpn status` shows. What cannot be asked right now is a trouble, not a fault."""
    seen = {name: cloud.engine.view(node.now()) for name, cloud in node.clouds.items()}
    asked = asyncio.gather(sessions(node), refusals(node), silent_hubs.troubles(node))  # each waits for FRR
    (bgp, bgp_trouble), refused, silent = await asked
    guards = await asyncio.to_thread(_guards, node.settings.network)
    hubs = tuple(_hub(node, name, row) for name, view in seen.items() for row in view.hubs)
    peers = tuple(row for name, view in seen.items() for row in _peers(node, name, view))
    spoken = {str(one["address"]): str(one["state"]) for one in bgp}
    troubles = [*_paper_troubles(node), *_troubles(node, hubs, peers), *bgp_trouble]
    troubles += silent + node.orphans.troubles
    uplinks = uplink_views.rows(node)
    troubles += uplink_views.troubles(node, uplinks)
    rules = node.rules.view()
    policies = None if node.policies is None else node.policies.view()
    troubles += rules_troubles(rules, guards) + policies_troubles(policies)
    return NodeStatus(
        network=node.settings.network,
        router=node.settings.router,
        transport=str(node.settings.transport),
        uptime_s=node.now() - node.started_at,
        charon=f"charon {node.ike.version}" if not node.ike.trouble else f"charon: {node.ike.trouble}",
        aes=kernel_facts.has_aes(),
        clouds=tuple(_cloud(node, cloud, seen[name], refused.get(name, {})) for name, cloud in node.clouds.items()),
        hubs=hubs,
        peers=tuple(replace(row, bgp=_spoken(row, spoken)) for row in peers),
        cache=tuple(row for name, view in seen.items() for row in _cache(node.clouds[name], view)),
        bgp=bgp,
        guards=guards,
        troubles=tuple(sorted(troubles, key=lambda trouble: -trouble.severity)),
        rules=rules,
        policies=policies,
        gateways=shared_gateways.rows(node),
        uplinks=uplinks,
    )


def _paper_troubles(node: Node) -> list[Trouble]:
    if not any(cloud.encrypted for cloud in node.settings.clouds):
        return []
    credentials, now = node.credentials, datetime.now(UTC)
    return [
        *paper_troubles.own_troubles(credentials.renewing.standing(), str(node.settings.paths.pki), now),
        *paper_troubles.list_troubles(credentials.vouching.revocations.overdue(now)),
        *paper_troubles.refusal_troubles(node.ike.refused.values()),
    ]


def moments(node: Node) -> list[dict[str, Any]]:
    """What the engines remember having done, oldest first."""
    now = node.now()
    rows = [
        {
            "age_s": round(now - one.at, 3),
            "cloud": name,
            "happening": one.happening,
            "subject": one.subject,
            "detail": one.detail,
        }
        for name, cloud in node.clouds.items()
        for one in cloud.moments
    ]
    return sorted(rows, key=lambda row: -row["age_s"])


def _guards(network: str) -> dict[str, int]:
    try:
        return ruleset.counters(f"dmvpn_{network}")
    except Fault:
        return {}


# ---------------------------------------------------------------- rows


def _cloud(node: Node, cloud: Cloud, view: View, refused: Mapping[str, int]) -> CloudRow:
    plane = node.plane_view
    tunnel = plane.state.tunnels.get(cloud.settings.device) if plane.state else None
    drops: dict[str, int] = {f"nhrp {reason.value}": count for reason, count in view.dropped.items()}
    drops |= {f"nhrp {reason}": count for reason, count in cloud.drops.items() if reason not in KNOWN_DROPS}
    if tunnel is not None:
        drops |= {f"gre {reason}": count for reason, count in tunnel.drops.items()}
    drops |= {**refused, **node.learned.drops.get(cloud.settings.name, {})}
    if cloud.settings.encrypted:
        drops |= {f"ike {reason}": count for reason, count in node.ike.unvouched.items()}
    if cloud.settings.plane == KERNEL:
        socket = KERNEL
    elif plane.state is None:
        socket = plane.trouble or "down"
    else:
        socket = "bound" if plane.state.bound else "waiting for charon's device"
    return CloudRow(
        name=cloud.settings.name,
        device=cloud.settings.device,
        role=cloud.settings.role,
        plane=cloud.settings.plane,
        encrypted=cloud.settings.encrypted,
        mtu_octets=cloud.settings.mtu_octets,
        addresses=tuple(map(str, cloud.settings.addresses)),
        socket=socket,
        counters={
            **{f"sent {kind.name.lower()}": count for kind, count in view.sent.items()},
            **{f"received {kind.name.lower()}": count for kind, count in view.received.items()},
            **({"learned spokes": node.learned.count(cloud.settings.name)} if node.settings.learned_unit else {}),
        },
        drops={reason: count for reason, count in drops.items() if count},
    )


def has_tunnel(node: Node) -> bool | None:
    """Whether a packet can leave by a tunnel: a hub is up, or a spoke is bound. None: it cannot be said yet.

    SAs outlive dmvpnd: before charon has told a new one of them, none that it knows of is no loss.
    """
    found = any(
        any(_way_to_hub(row, cloud.standing(row.nbma)) is State.DIRECT for row in view.hubs)
        or any(row.bound and row.kind is BindingKind.REGISTERED for row in view.bindings)
        for cloud in node.clouds.values()
        for view in (cloud.engine.view(node.now()),)
    )
    known = node.ike.has_told or node.now() - node.started_at >= SETTLED_S
    return found if found or known else None


def _hub(node: Node, cloud: str, row: EngineHubRow) -> HubRow:
    state = _way_to_hub(row, node.clouds[cloud].standing(row.nbma))
    up = state is State.DIRECT
    return HubRow(
        cloud=cloud,
        router=row.name,
        overlay=" ".join(map(str, row.protocol)),
        nbma=str(row.nbma),
        state="up" if up else state.value,
        why="" if up else node.ike.why_refused.get(row.nbma) or row.reason or NO_SA,
        since_s=row.age_s,
        rtt_ms=None if row.rtt_s is None else row.rtt_s * 1000,
    )


def _peers(node: Node, cloud: str, view: View) -> list[PeerRow]:
    rows = [_hub_peer(node, cloud, row) for row in view.hubs]
    rows += [_client(node, cloud, row) for row in view.bindings if row.kind is BindingKind.REGISTERED]
    by_peer: dict[Any, list[ShortcutRow]] = {}
    for row in view.shortcuts:
        if row.state is ShortcutState.NEGATIVE and row.why is EngineWhyNot.VIA_HUB:
            continue  # there is nothing better: the hub is the far end
        # Several prefixes of one peer share its fate; before a peer is known each destination is on its own.
        by_peer.setdefault((row.nbma or row.destination, row.state), []).append(row)
    rows += [_shortcut(node, cloud, view, group) for group in by_peer.values()]
    return rows


def _way_to_hub(row: EngineHubRow, standing: Up | None) -> State:
    # What the engine remembers from before a restart counts once charon has it too.
    if row.is_up and standing is not None:
        return State.DIRECT
    return State.DOWN if row.state is HubState.REFUSED else State.CONNECTING


def _spoken(row: PeerRow, states: Mapping[str, str]) -> str:
    """The session with it; of both families where they differ."""
    return ", ".join(dict.fromkeys(states[one] for one in row.overlay.split() if one in states))


def _hub_peer(node: Node, cloud: str, row: EngineHubRow) -> PeerRow:
    standing = node.clouds[cloud].standing(row.nbma)
    state = _way_to_hub(row, standing)
    up = state is State.DIRECT
    layer = "UP" if up else "IKE" if standing else "UNDERLAY"
    return PeerRow(
        cloud=cloud,
        name=row.name,
        overlay=" ".join(map(str, row.protocol)),
        kind="hub",
        state=state,
        layer=layer,
        why="" if up else node.ike.why_refused.get(row.nbma) or row.reason or NO_SA,
        prefixes=(),
        since_s=row.age_s,
        expires_s=None,
        rtt_ms=None if row.rtt_s is None else row.rtt_s * 1000,
        **_transport(node, cloud, row.nbma),
    )


def _client(node: Node, cloud: str, row: BindingRow) -> PeerRow:
    authority = node.clouds[cloud].authority
    claims = authority.claims(row.nbma) if row.nbma else None
    return PeerRow(
        cloud=cloud,
        name=authority.name(row.nbma) if row.nbma else "",
        overlay=str(row.protocol),
        kind="client",
        state=State.DIRECT if row.bound else State.DOWN,
        layer="UP" if row.bound else "UNDERLAY",
        why="" if row.bound else "no SA stands",
        prefixes=tuple(map(str, claims.prefixes)) if claims else (),
        since_s=row.age_s,
        expires_s=row.expires_s,
        rtt_ms=None,
        **_transport(node, cloud, row.nbma),
    )


def _shortcut(node: Node, cloud: str, view: View, group: list[ShortcutRow]) -> PeerRow:
    row = group[0]
    standing = node.clouds[cloud].standing(row.nbma) is not None
    if row.state is ShortcutState.UP:
        state, layer = State.DIRECT, "UP"
    elif row.state is ShortcutState.NEGATIVE:
        state, layer = State.VIA_HUB, "IKE" if standing else "UNDERLAY"
    else:
        state, layer = State.CONNECTING, "NHRP" if row.state is ShortcutState.PROBING else "UNDERLAY"
    return PeerRow(
        cloud=cloud,
        name=node.clouds[cloud].authority.name(row.nbma) if row.nbma else "",
        overlay=" ".join(dict.fromkeys(str(one.gateway) for one in group if one.gateway)) or str(row.destination),
        kind="shortcut",
        state=state,
        layer=layer,
        why="" if state is State.DIRECT else why_not(node, view, row)[0].value,
        prefixes=tuple(str(one.prefix) for one in group),
        since_s=max(one.age_s for one in group),
        expires_s=row.expires_s,
        rtt_ms=None if row.rtt_s is None else row.rtt_s * 1000,
        **_transport(node, cloud, row.nbma),
    )


def _transport(node: Node, cloud: str, nbma: Any) -> dict[str, Any]:
    """What charon and the data plane say of the peer behind an NBMA address."""
    standing = node.clouds[cloud].standing(nbma)
    sent, received = _octets(node, node.clouds[cloud], nbma)
    return {
        "nbma": str(nbma or ""),
        "endpoint": _endpoint(standing.remote) if standing else "",
        "tx_octets": sent,
        "rx_octets": received,
    }


def _endpoint(remote: Remote) -> str:
    """As in a URL: an IPv6 address with a port is in brackets, or the port would be its last group."""
    if not remote.port:
        return remote.host
    return f"[{remote.host}]:{remote.port}" if ":" in remote.host else f"{remote.host}:{remote.port}"


def _octets(node: Node, cloud: Cloud, nbma: Any) -> tuple[int, int]:
    """To and from the peer: dmvpn-gre counts on the userspace plane, the SAs do on the kernel's."""
    if nbma is None or cloud.settings.plane == KERNEL:
        return node.ike.octets(nbma) if nbma is not None and cloud.settings.encrypted else (0, 0)
    state = node.plane_view.state
    tunnel = state.tunnels.get(cloud.settings.device) if state else None
    counters = tunnel.peers.get(nbma) if tunnel else None
    return (counters.tx_octets, counters.rx_octets) if counters else (0, 0)


def _cache(cloud: Cloud, view: View) -> list[CacheRow]:
    device = cloud.settings.device
    rows = [
        _cache_binding(cloud.settings.name, device, row) for row in view.bindings if row.kind is not BindingKind.LOCAL
    ]
    for row in view.shortcuts:
        up = row.state is ShortcutState.UP
        rows.append(
            CacheRow(
                cloud=cloud.settings.name,
                device=device,
                protocol=str(row.prefix if row.prefix.num_addresses > 1 else row.destination),
                nbma=str(row.nbma or "UNKNOWN"),
                claimed_nbma="",
                attributes="DT1" if up else "I",
                state="UP" if up else "IKE" if row.state is ShortcutState.CONNECTING else "NHRP",
                since_s=row.age_s,
            )
        )
    return rows


def _cache_binding(cloud: str, device: str, row: BindingRow) -> CacheRow:
    natted = row.claimed_nbma is not None and row.claimed_nbma != row.nbma
    private = {endpoint.address for endpoint in row.private}
    if row.observed is not None and private and row.observed.address not in private:
        natted = True
    return CacheRow(
        cloud=cloud,
        device=device,
        protocol=str(row.protocol),
        nbma=str(row.nbma or "UNKNOWN"),
        claimed_nbma=str(row.claimed_nbma or ""),
        attributes=CISCO_LETTERS.get(row.kind, "I") + ("N" if natted else ""),
        state="UP" if row.bound or row.kind is BindingKind.REQUESTER else "IKE",
        since_s=row.age_s,
    )


def _troubles(node: Node, hubs: tuple[HubRow, ...], peers: tuple[PeerRow, ...]) -> list[Trouble]:
    found = []
    if node.ike.trouble:
        found.append(Trouble(SEVERE, f"charon: {node.ike.trouble}", "dmvpn run"))
    if node.plane_view.trouble and any(cloud.settings.plane == "userspace" for cloud in node.clouds.values()):
        found.append(Trouble(SEVERE, f"data plane: {node.plane_view.trouble}", "dmvpn run"))
    down = [hub for hub in hubs if hub.state != "up"]
    if down:
        severity = SEVERE if len(down) == len(hubs) else WARNING
        words = ", ".join(f"{hub.router} is {hub.state}" + (f" ({hub.why})" if hub.why else "") for hub in down)
        found.append(Trouble(severity, f"hub {words}", f"dmvpn explain {node.settings.router} {down[0].router}"))
    found += [trouble for peer in peers if (trouble := _peer_trouble(node, peer)) is not None]
    return found


def _peer_trouble(node: Node, peer: PeerRow) -> Trouble | None:
    where = peer.name or peer.overlay
    explain = f"dmvpn explain {node.settings.router} {where}"
    if peer.kind == "client" and peer.state is State.DOWN:
        return Trouble(WARNING, f"{where} is down ({peer.why})", explain)
    if peer.kind != "shortcut" or peer.state is State.DIRECT:
        return None
    if peer.state is State.VIA_HUB or (peer.since_s or 0) > PATIENCE_S:
        return Trouble(REMARK, f"{where} goes via the hub: {peer.why}", explain)
    return None
