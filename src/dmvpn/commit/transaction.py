"""The one way in which configuration reaches a router: stage, check, switch, and back if anything fails.

Whoever dies under way leaves the old revision or the new one. Until the journal is open nothing has happened; from then
until it is closed the next start goes back to the old revision; afterwards the new one is in force.
"""

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from dmvpn.commit.checking import run_check
from dmvpn.commit.deadline import Deadline
from dmvpn.commit.difference import Difference, compare, show
from dmvpn.commit.outcome import Edited, Edits, Failed, Outcome, Preview, Undone, Unverified
from dmvpn.commit.revision import Message, Revision, Stored, units_of
from dmvpn.commit.store import Journal, Places, Step, Store
from dmvpn.errors import Fault
from dmvpn.linux.moment import Moment, now
from dmvpn.linux.services import Applied, Resting, ServiceFault, Services
from dmvpn.render.result import Check, Rendered

START_WAIT_S = 60.0  # a start at boot meets whoever is on the way back
CHANGE_WAIT_S = 1.0  # who stands by looks for a moment whether there is something to do

Checker = Callable[[Check, Path], None]


def nothing(_: object) -> None:
    """The step that nobody watches."""


def unattended() -> None:
    """Nobody stands by who would go back if this process dies: the next start does."""


def handed_over(_: Sequence[Rendered]) -> None:
    """Whoever keeps the services keeps them whatever the revision."""


def unverified() -> Callable[[], None]:
    """Whatever comes back is good."""
    return unattended


@dataclass(frozen=True, slots=True)
class Transaction:
    """A router's changes. `guard` raises a Fault where nothing may be changed; `step` is called before each operation.

    `attend` is called before a switch: it has somebody stand by, in a process of its own, who calls attend_to() when
    this one dies, or when a deadline is over. `hand_over` hears what is about to be in force, while the link still
    leads to what was: if that has another keeper, whoever keeps `services` lets them go, and from then on they are the
    other's. `verify` looks at the network before the switch and gives a function that looks again afterwards and raises
    Unverified.

    Every verb that changes something takes the lock, and first goes back if an earlier change died half-way.
    """

    places: Places
    services: Services
    guard: Callable[[], None]
    check: Checker = run_check
    step: Step = nothing
    attend: Callable[[], None] = unattended
    hand_over: Callable[[Sequence[Rendered]], None] = handed_over
    verify: Callable[[], Callable[[], None]] = unverified
    clock: Callable[[], Moment] = now

    @property
    def store(self) -> Store:
        return Store(self.places, self.step)

    def apply(
        self,
        rendered: Sequence[Rendered],
        message: Message,
        *,
        confirm_within_s: float | None = None,
        edits: Edits = Edits.REFUSE,
    ) -> Outcome:
        """Bring `rendered` into force. Raises Failed; then the previous revision is in force, or still is.

        With `confirm_within_s` it goes back that many seconds later unless confirm() is called. While a change waits
        for that, another one is refused. With nothing changed, no revision is made; services that are down are started.
        """
        self.guard()
        with self.store.locked(f"apply by {message.who}", wait_s=CHANGE_WAIT_S):
            self._recover()
            old = self._old()
            parts = old.parts if old is not None else ()
            deadline = self._deadline(old.number if old is not None else None)
            if old is not None and old.drifted and edits is Edits.REFUSE:
                raise Edited(old.drifted)
            difference = compare(parts, rendered)
            if old is not None and difference.nothing:
                self.hand_over(rendered)
                applied = self.services.apply(units_of(rendered))
                left_s = None if deadline is None else deadline.left_s(self.clock())
                return Outcome(old.number, old.number, (), applied, confirm_s=left_s)
            if deadline is not None:
                raise self._waiting(deadline)
            before = old.number if old is not None else None
            number = max(self.store.numbers(), default=0) + 1
            self._prepare(number, before, rendered, difference, message)
            kept = self._keep_edits(number, old)
            applied = self._enforce(Journal(before, number), parts, rendered, difference, confirm_within_s)
            with suppress(Fault):  # the change has happened; the next one prunes again
                self.store.prune()
            drifted = old.drifted if old is not None else ()
            return Outcome(number, before, difference.files, applied, drifted, kept, confirm_within_s)

    def preview(self, rendered: Sequence[Rendered]) -> Preview:
        """What apply() would do; changes nothing. Raises Fault."""
        old = self._old()
        if old is None:
            return Preview(None, compare((), rendered), tuple(show((), rendered)), ())
        return Preview(
            old.number,
            compare(old.parts, rendered),
            tuple(show(old.parts, rendered)),
            old.drifted,
            tuple(show(old.written, old.parts)),
            old.written,
        )

    def rollback(
        self,
        number: int,
        message: Message,
        *,
        confirm_within_s: float | None = None,
        edits: Edits = Edits.REFUSE,
    ) -> Outcome:
        """Bring an earlier revision's content into force, as a new revision: history only grows. Raises Failed."""
        written = self.store.load(number).written
        return self.apply(written, message, confirm_within_s=confirm_within_s, edits=edits)

    def confirm(self, who: str) -> Deadline | None:
        """What is in force stays. Returns the deadline that this ended; None if nothing was waiting."""
        self.guard()
        with self.store.locked(f"confirm by {who}", wait_s=CHANGE_WAIT_S):
            self._recover()
            deadline = self._deadline(self.store.in_force())
            self.store.clear_deadline()
            return deadline

    def undo(self, why: str) -> Undone | None:
        """Take back a change that waits to be confirmed, now. None if there is none. Raises Fault."""
        self.guard()
        with self.store.locked("rollback", wait_s=CHANGE_WAIT_S):
            self._recover()
            deadline = self._deadline(self.store.in_force())
            return None if deadline is None else self._undo(deadline, why)

    def attend_to(self, *, wait_s: float) -> Undone | None:
        """Go back if a change died half-way, or if the time to confirm is over. None if there was nothing to undo.

        Waits up to `wait_s` for the lock. None also where the network was taken off the machine. Raises Fault.
        """
        self.guard()
        if not self.places.revisions.is_dir():  # the lock would bring it back
            return None
        with self.store.locked("the way back", wait_s=wait_s):
            return self._recover() or self._undo_late()

    def diff(self, one: int, other: int) -> tuple[str, ...]:
        """Unified diff between two revisions as they were written. Raises Fault."""
        return tuple(show(self.store.load(one).written, self.store.load(other).written))

    def edits(self) -> tuple[str, ...]:
        """Unified diff of what was edited by hand in the revision in force. Raises Fault."""
        old = self._old()
        return () if old is None else tuple(show(old.written, old.parts))

    def history(self) -> tuple[Revision, ...]:
        return self.store.history()

    def in_force(self) -> int | None:
        return self.store.in_force()

    def waiting(self) -> Deadline | None:
        """The deadline of a change that waits to be confirmed, without touching anything."""
        return self._deadline(self.store.in_force())

    def drift(self) -> tuple[PurePosixPath, ...]:
        """Files of the revision in force that were edited by hand."""
        old = self._old()
        return () if old is None else old.drifted

    def start(self) -> tuple[int | None, Undone | None]:
        """After boot, or after a change that died: go back if need be, and have the services of the revision in force.

        Returns its number, None if there is none, and what was taken back. Raises Fault.
        """
        self.guard()
        with self.store.locked("start", wait_s=START_WAIT_S):
            undone = self._recover() or self._undo_late()
            deadline = self._deadline(self.store.in_force())
            if deadline is not None:
                self.store.set_deadline(deadline.carried_over(self.clock()))
                self.attend()
            old = self._old()
            if old is None:
                return None, undone
            self.services.apply(units_of(old.parts))
            return old.number, undone

    def stop(self, why: str) -> Undone | None:
        """Stop all services; the revision stays in force for the next start.

        A change that died half-way or waits to be confirmed is taken back, `why`, and nothing starts for that: whoever
        stands by must find nothing to do, or he would start what was stopped. Returns what was taken back.
        """
        self.guard()
        with self.store.locked("stop", wait_s=CHANGE_WAIT_S):
            self.services.apply(())
            resting = replace(self, services=Resting(self.services))
            undone = resting._recover()
            deadline = self._deadline(self.store.in_force())
            return undone if deadline is None else resting._undo(deadline, why)

    def recover(self) -> int | None:
        """Go back to the old revision if a change died before it was done. Returns what is in force. Raises Fault."""
        self.guard()
        with self.store.locked("recover", wait_s=CHANGE_WAIT_S):
            self._recover()
            return self.store.in_force()

    def _deadline(self, in_force: int | None) -> Deadline | None:
        """Of the revision in force: one that was left behind by a change that went back counts no more."""
        deadline = self.store.deadline()
        return deadline if deadline is not None and deadline.after == in_force else None

    def _waiting(self, deadline: Deadline) -> Fault:
        left_s = max(0.0, deadline.left_s(self.clock()))
        what = f"revision {deadline.after} waits to be confirmed, for {left_s:.0f} s more"
        return Fault("apply", what, "first `dmvpn confirm` or `dmvpn rollback`: one change at a time")

    def _keep_edits(self, number: int, old: Stored | None) -> Path | None:
        if old is None or not old.drifted:
            return None
        try:
            return self.store.keep_edits(old)
        except Fault as fault:
            self.store.discard(number)
            raise Failed("keep what was edited by hand", fault, old.number) from fault

    def _undo_late(self) -> Undone | None:
        deadline = self._deadline(self.store.in_force())
        if deadline is None or deadline.left_s(self.clock()) > 0:
            return None
        # What is left of the time is counted anew in each boot.
        when = "in time, over a reboot" if deadline.boots else f"within {deadline.within_s:.0f} s"
        return self._undo(deadline, f"nobody confirmed it {when}")

    def _undo(self, deadline: Deadline, why: str) -> Undone:
        journal = Journal(deadline.before, deadline.after, why)
        # On a full disk: the deadline does as well, it stays until all is back.
        with suppress(Fault):
            self.store.open_journal(journal)
        old = self.store.load(journal.before).parts if journal.before is not None else ()
        return self._go_back(journal, old, self.store.load(journal.after).parts)

    def _old(self) -> Stored | None:
        number = self.store.in_force()
        return None if number is None else self.store.load(number)

    def _prepare(
        self,
        number: int,
        before: int | None,
        rendered: Sequence[Rendered],
        difference: Difference,
        message: Message,
    ) -> None:
        doing = "stage"
        try:
            tree = self.store.stage(number, rendered, message)
            for part in difference.check:
                doing = f"check {part.engine}"
                self.step(doing)
                for check in part.checks:
                    self.check(check, tree)
        except Fault as fault:
            self.store.discard(number)
            raise Failed(doing, fault, before) from fault
        except BaseException:
            self.store.discard(number)
            raise

    def _enforce(
        self,
        journal: Journal,
        old: Sequence[Rendered],
        new: Sequence[Rendered],
        difference: Difference,
        confirm_within_s: float | None,
    ) -> Applied:
        reached: Collection[str] | None = ()
        try:
            look_again = self.verify()
            if confirm_within_s is not None:
                self.store.set_deadline(Deadline(journal.before, journal.after, confirm_within_s, self.clock()))
            self.step("have somebody stand by")
            self.attend()
            self.store.open_journal(journal)
            self.store.keep(journal.after)
            reached = None
            self.step("hand the services over")
            self.hand_over(new)
            applied = self._switch(journal.after, new, difference)
            self.step("verify")
            look_again()
            if confirm_within_s is not None:  # the operator's time begins when the change is there to be looked at
                self.store.set_deadline(Deadline(journal.before, journal.after, confirm_within_s, self.clock()))
            self.store.close_journal()
        except Fault as fault:
            doing = "verify" if isinstance(fault, Unverified) else "switch"
            failed = replace(journal, undoing=str(fault)) if isinstance(fault, Unverified) else journal
            try:
                self._go_back(failed, old, new, _reached(fault) if isinstance(fault, ServiceFault) else reached)
            except Fault as second:
                hint = f"going back failed as well: {second}; mend that and run `dmvpn apply`"
                raise Failed(doing, fault, self.store.in_force(), hint) from second
            raise Failed(doing, fault, journal.before) from fault
        except BaseException:  # Ctrl-C leaves nothing half done
            self._go_back(journal, old, new, reached)
            raise
        return applied

    def _switch(self, number: int | None, parts: Sequence[Rendered], difference: Difference) -> Applied:
        # What goes must go while its files still stand behind the link: its own way of stopping may read them.
        known = {row.name for row in self.services.status()}
        for name in difference.stop:
            if name in known:
                self.step(f"stop {name}")
                self.services.stop(name)
        if number is not None:
            self.store.point_to(number)
        self.step("bring the services to it")
        applied = self.services.apply(units_of(parts), restart=difference.restart, reload=difference.reload)
        if number is None:
            self.store.point_to(None)
        others = tuple(name for name in applied.stopped if name not in difference.stop)
        return replace(applied, stopped=(*difference.stop, *others))

    def _go_back(
        self,
        journal: Journal,
        old: Sequence[Rendered],
        new: Sequence[Rendered],
        reached: Collection[str] | None = None,
    ) -> Undone:
        """`reached` are the units that saw the new revision; None if nobody knows, then all are brought back."""
        back = compare(new, old)
        if reached is not None:
            back = replace(
                back,
                restart=tuple(name for name in back.restart if name in reached),
                reload=tuple(name for name in back.reload if name in reached),
            )
        with suppress(Fault):  # then whoever has them now goes on: better than nobody
            self.hand_over(old)
        self._switch(journal.before, old, back)
        if not journal.undoing:
            self.store.discard(journal.after)
        else:
            with suppress(Fault):  # without room for the reason it is no less undone
                self.store.note_undone(journal.after, journal.undoing)
        self.store.clear_deadline()
        self.store.close_journal()
        return Undone(journal.before, journal.after, journal.undoing or "the change died half-way")

    def _recover(self) -> Undone | None:
        journal = self.store.journal()
        undone = None
        if journal is not None:
            # Without the new revision's directory its rename had not happened, and so nothing after it either.
            old = self.store.load(journal.before).parts if journal.before is not None else ()
            new = self.store.load(journal.after).parts if journal.after in self.store.numbers() else old
            undone = self._go_back(journal, old, new)
        self.store.sweep()
        deadline = self.store.deadline()
        if deadline is not None and deadline.after != self.store.in_force():
            # Of a change that died before it came into force. The next one gets its number, and may need no confirming.
            self.store.clear_deadline()
        return undone


def _reached(fault: ServiceFault) -> Collection[str]:
    applied = fault.applied
    return {*applied.started, *applied.restarted, *applied.reloaded}
