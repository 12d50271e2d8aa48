"""One change on many routers over SSH: all are asked first, one goes ahead, the others follow a few at a time.

Each router makes the change as its own transaction that goes back unless confirmed, and the confirmation comes over a
second login: a router that the change cut off from here is therefore never confirmed. The first that does not get there
ends the run; it can be run again, and what is done already is then nothing to do.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from dmvpn.errors import Fault, WrongInput
from dmvpn.linux import process, ssh
from dmvpn.linux.ssh import Target, Unreachable
from dmvpn.network.places import places
from dmvpn.network.plan import Role
from dmvpn.operations import delivery
from dmvpn.operations.delivery import Delivery, Order
from dmvpn.operations.inviting import secrets_of, sliced
from dmvpn.operations.reading import NetworkFile

ASK_LIMIT_S = 60.0
APPLY_LIMIT_S = 300.0
LOOK_S = 0.2


class State(StrEnum):
    """What became of one router."""

    WOULD_CHANGE = "would change"
    SAME = "nothing to do"
    CONFIRMED = "confirmed"
    BACK = "went back"
    UNCONFIRMED = "goes back by itself"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    NOT_TOUCHED = "not touched"

    @property
    def good(self) -> bool:
        return self in (State.WOULD_CHANGE, State.SAME, State.CONFIRMED)


@dataclass(frozen=True, slots=True)
class Row:
    """One router's end. `words` say why, or what changes; `seconds` is how long its change took."""

    router: str
    state: State
    words: tuple[str, ...] = ()
    revision: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class How:
    """How a push goes about it. `hosts` are addresses by router where the tunnel address is not the one to use."""

    user: str = "root"
    port: int | None = None
    config: Path | None = None
    hosts: Mapping[str, str] = field(default_factory=dict)
    by_name: bool = False
    canary: str | None = None
    at_once: int = 4
    confirm_within_s: float = 300.0
    soak_s: float = 5.0
    why: str = ""


Report = Callable[[Row], None]


def targets(file: NetworkFile, chosen: Sequence[str], how: How) -> tuple[Target, ...]:
    """Where to log in, spokes first, hubs last. Raises WrongInput for routers that are unknown or not ours."""
    ours = {place.name: place for place in places(file.network) if place.ours}
    for name in (*chosen, *how.hosts, *((how.canary,) if how.canary else ())):
        if name not in ours:
            raise WrongInput(name, f"is no router of ours in {file.name}", f"there are: {', '.join(ours)}")
    wanted = [name for name in ours if name in chosen or not chosen]
    if how.canary is not None and how.canary not in wanted:
        raise WrongInput(how.canary, "is the canary, and not among the routers named", "name it too")
    found = []
    for name in wanted:
        tunnels = ours[name].router.tunnels.values()
        alias = f"{name}.{file.network.domain}"
        overlay = str(next(iter(tunnels)).address[0])
        host = how.hosts.get(name) or (alias if how.by_name else overlay)
        hub = any(tunnel.role is Role.HUB for tunnel in tunnels)
        found.append((hub, Target(name, host, alias, how.user, how.port, how.config)))
    # A hub goes last: while it changes, the way to every other router may be its own.
    return tuple(target for _, target in sorted(found, key=lambda row: row[0]))


def hubs(file: NetworkFile) -> frozenset[str]:
    """Routers that go one at a time."""
    return frozenset(
        place.name
        for place in places(file.network)
        if any(tunnel.role is Role.HUB for tunnel in place.router.tunnels.values())
    )


@dataclass(slots=True)
class Push:
    """One run. `stop()` may be called from elsewhere: nothing is begun or confirmed after it."""

    file: NetworkFile
    how: How
    report: Report
    _stopping: threading.Event = field(default_factory=threading.Event)

    def stop(self) -> None:
        self._stopping.set()

    def preview(self, wanted: Sequence[Target]) -> tuple[Row, ...]:
        """What the change would be for each, asked of all before any is touched."""
        return self._many(wanted, self._ask)

    def run(self, wanted: Sequence[Target]) -> tuple[Row, ...]:
        """All of them, or up to the first that did not get there; a row for each, in the order given."""
        rows = {row.router: row for row in self.preview(wanted)}
        if not all(row.state.good for row in rows.values()):
            return tuple(_untouched(row) for row in rows.values())
        left = [target for target in wanted if rows[target.name].state is State.WOULD_CHANGE]
        for batch in self._batches(left):
            for row in self._many(batch, self._change):
                rows[row.router] = row
            if self._stopping.is_set() or not all(rows[target.name].state.good for target in batch):
                break
        return tuple(_untouched(row) for row in rows.values())

    def _batches(self, left: Sequence[Target]) -> Iterator[Sequence[Target]]:
        first = [target for target in left if target.name == self.how.canary]
        if first:
            yield first
        rest = [target for target in left if target not in first]
        relaying = hubs(self.file)
        spokes = [target for target in rest if target.name not in relaying]
        yield from (spokes[at : at + self.how.at_once] for at in range(0, len(spokes), self.how.at_once))
        yield from ([target] for target in rest if target.name in relaying)

    def _many(self, wanted: Sequence[Target], task: Callable[[Target], Row]) -> tuple[Row, ...]:
        rows: dict[str, Row] = {}
        with ThreadPoolExecutor(max_workers=self.how.at_once) as pool:
            asked = {pool.submit(task, target): target for target in wanted}
            try:
                for future in as_completed(asked):
                    row = future.result()
                    rows[row.router] = row
                    self.report(row)
            except BaseException:
                self.stop()
                for future in asked:
                    future.cancel()
                raise
        return tuple(rows[target.name] for target in wanted)

    # ------------------------------------------------------------ one router

    def _ask(self, target: Target) -> Row:
        try:
            answer = self._deliver(target, Order.PREVIEW, ASK_LIMIT_S)
        except Unreachable as fault:
            return Row(target.name, State.UNREACHABLE, (_words(fault),))
        except Fault as fault:
            return Row(target.name, State.REFUSED, (_words(fault),))
        drifted = tuple(answer.get("drifted", ()))
        if drifted:
            what = f"{', '.join(map(str, drifted))} edited by hand there; log in and see `dmvpn plan`"
            return Row(target.name, State.REFUSED, (what,))
        changes = tuple(str(line) for line in answer.get("changes", ()))
        state = State.WOULD_CHANGE if answer.get("would_change") else State.SAME
        return Row(target.name, state, changes, answer.get("revision"))

    def _change(self, target: Target) -> Row:
        if self._stopping.is_set():
            return Row(target.name, State.NOT_TOUCHED)
        began = time.monotonic()
        try:
            answer = self._deliver(target, Order.APPLY, APPLY_LIMIT_S)
        except Unreachable as fault:
            return Row(target.name, State.UNCONFIRMED, (_words(fault),), None, time.monotonic() - began)
        except Fault as fault:
            return Row(target.name, State.BACK, (_words(fault),), None, time.monotonic() - began)
        revision = answer.get("revision")
        if answer.get("confirm_s") is None:
            return Row(target.name, State.SAME, (), revision, time.monotonic() - began)
        if self._waits(self.how.soak_s):
            return Row(target.name, State.UNCONFIRMED, ("interrupted here",), revision, time.monotonic() - began)
        try:
            # Another login: it proves that the way there still works.
            result = ssh.run(
                target, ("dmvpn", "confirm", "--network", self.file.network.network), timeout_s=ASK_LIMIT_S
            )
            state = State.CONFIRMED if result.status == 0 else State.BACK
            words = () if result.status == 0 else (_said(result.stderr),)
        except Unreachable as fault:
            state, words = State.UNCONFIRMED, (_words(fault),)
        return Row(target.name, state, words, revision, time.monotonic() - began)

    def _waits(self, seconds: float) -> bool:
        return self._stopping.wait(seconds)

    def _deliver(self, target: Target, order: Order, limit_s: float) -> dict[str, Any]:
        """Raises Fault with the router's own words where it refused."""
        one = Delivery(
            order,
            self.file.network.network,
            target.name,
            sliced(self.file, target.name),
            dict(secrets_of(self.file, target.name)),
            self.how.why,
            self.how.confirm_within_s,
        )
        result = ssh.run(target, ("dmvpn", "receive"), timeout_s=limit_s, input=delivery.encode(one))
        if result.status != 0:
            raise Fault(target.name, _said(result.stderr) or f"dmvpn receive ended with status {result.status}")
        try:
            answer = json.loads(result.stdout)
        except ValueError as error:
            raise Fault(target.name, "answered something that is not JSON", "is OpenDMVPN there?") from error
        if not isinstance(answer, dict):
            raise Fault(target.name, "answered something that is no JSON object")
        return answer


def _untouched(row: Row) -> Row:
    """A router that would have changed, when all is over."""
    if row.state is State.WOULD_CHANGE:
        return Row(row.router, State.NOT_TOUCHED, (), row.revision)
    return row


def _words(fault: Fault) -> str:
    return f"{fault.what}; {fault.fix}" if fault.fix else fault.what


def _said(stderr: bytes) -> str:
    """What the command there complained about, in one line."""
    return process.shown(stderr).removeprefix("dmvpn: ")
