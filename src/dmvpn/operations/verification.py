"""Whether the overlay came back as it was before a change; handed to the transaction, which goes back if it did not.

What was there before counts: hubs that were up, routing sessions that stood, peers that answered a ping. What the new
Plan no longer wants is not held against it, and a path that was direct may be relayed.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Self

from dmvpn.commit.outcome import Unverified
from dmvpn.errors import Fault
from dmvpn.linux import vtysh
from dmvpn.linux.echo import Pinger
from dmvpn.linux.link_local import overlay_of
from dmvpn.linux.pace import patience
from dmvpn.network.plan import Address, Network, Plan, Role
from dmvpn.operations import observing
from dmvpn.operations.here import Here

LIMIT_S = 30.0
PING_S = 1.0  # how long a peer may take to answer; who is slower before the change is not asked afterwards
PAUSE_S = 0.2
ESTABLISHED = "Established"
PINGED_LIMIT = 64
# Spokes come and go by themselves: a hub's change is held against it when it loses more than half of them.
SHARE_OF_SPOKES = 0.5
NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Seen:
    """What stands, in an operator's words. Of `each`, all must come back; of a group of `many`, half."""

    each: frozenset[str]
    many: dict[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the Plan says of peers: routers and overlay addresses of hubs, and the networks where spokes come from."""

    hubs: frozenset[str]
    fixed: frozenset[Address]
    spokes: tuple[Network, ...]
    overlays: Mapping[str, tuple[Network, ...]]  # by device

    @classmethod
    def of(cls, plan: Plan) -> Self:
        hubs = [(cloud.name, hub) for cloud in plan.clouds for hub in cloud.hubs]
        reached = [
            address
            for cloud in plan.clouds
            for hub in cloud.hubs
            for address in hub.overlay
            if any(own.version == address.version for own in cloud.addresses)
        ]
        neighbours = [one.address for cloud in plan.clouds if cloud.bgp for one in cloud.bgp.neighbors]
        return cls(
            frozenset(f"hub {hub.router} of {name}" for name, hub in hubs),
            frozenset((*reached, *neighbours)),
            tuple(overlay for cloud in plan.clouds if cloud.role is Role.HUB for overlay in cloud.overlay),
            {cloud.device: cloud.overlay for cloud in plan.clouds},
        )

    def serves(self, address: Address) -> bool:
        return any(address in overlay for overlay in self.spokes)


def verification(here: Here, plan: Plan) -> Callable[[], Callable[[], None]]:
    """For Transaction.verify. `plan` is the one that is to come into force."""
    wanted = Wanted.of(plan)

    def look() -> Callable[[], None]:
        before = _seen(here, wanted)

        def look_again() -> None:
            deadline = time.monotonic() + patience(LIMIT_S)
            while missing := _missing(here, wanted, before):
                if time.monotonic() > deadline:
                    what = f"{', '.join(missing)} did not come back within {LIMIT_S:g} s"
                    raise Unverified("the network", what)
                time.sleep(PAUSE_S)

        return look_again

    return look


def _missing(here: Here, wanted: Wanted, before: Seen | None) -> list[str]:
    if before is None or not (before.each or any(before.many.values())):
        return []
    now = _seen(here, wanted)
    if now is None:
        return ["dmvpnd"]
    found = sorted(before.each - now.each)
    for what, members in before.many.items():
        there = len(members & now.many.get(what, NOTHING))
        if there < len(members) * SHARE_OF_SPOKES:
            found.append(f"{len(members) - there} of {len(members)} {what}")
    return found


def _seen(here: Here, wanted: Wanted) -> Seen | None:
    """None when dmvpnd or FRR cannot be asked."""
    try:
        status = observing.status(here)
        ospf = vtysh.ospf_neighbours(Path(here.layout.frr_run))
        bgp = vtysh.bgp_peers(Path(here.layout.frr_run)) if status.bgp else ()
    except Fault:
        return None
    up = {ip_address(text) for row in status.peers if row.layer == "UP" for text in row.overlay.split()}
    speaking = {row.address for row in bgp if row.state == ESTABLISHED}
    speaking |= {overlay_of(row.address, wanted.overlays.get(row.device, ())) for row in ospf if row.full}
    answering = set(_answering(sorted(map(str, up))[:PINGED_LIMIT]))
    each = {f"hub {hub.router} of {hub.cloud}" for hub in status.hubs if hub.state == "up"} & wanted.hubs
    each |= {f"the routing session with {address}" for address in speaking & wanted.fixed}
    each |= {f"an answer from {address}" for address in answering & wanted.fixed}
    groups = {"spokes": up, "spokes' routing sessions": speaking, "spokes that answer a ping": answering}
    many = {
        what: frozenset(str(one) for one in members - wanted.fixed if wanted.serves(one))
        for what, members in groups.items()
    }
    return Seen(frozenset(each), many)


def _answering(addresses: Sequence[str]) -> Iterator[Address]:
    """Those that answer one echo request, as soon as all have or the time is over."""
    deadline = time.monotonic() + patience(PING_S)
    with ExitStack() as stack:
        asked = []
        for address in map(ip_address, addresses):
            with suppress(Fault):
                pinger = stack.enter_context(closing(Pinger(address)))
                pinger.send(1)
                asked.append((address, pinger))
        for address, pinger in asked:
            if next(pinger.answers(max(0.001, deadline - time.monotonic())), None) is not None:
                yield address
