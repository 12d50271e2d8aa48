"""The one way in which configuration reaches a router: stage, check, switch, and back if anything fails.

Whoever dies under way leaves the old revision or the new one. Until the journal is open nothing has happened; from then
until it is closed the next start goes back to the old revision; afterwards the new one is in force.
"""

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from dmvpn.commit.difference import Difference, FileChange, compare, show
from dmvpn.commit.revision import Message, Revision, Stored, units_of
from dmvpn.commit.store import Journal, Places, Step, Store
from dmvpn.errors import Fault
from dmvpn.linux import process
from dmvpn.linux.services import Applied, ServiceFault, Services
from dmvpn.render.result import Check, Rendered

Checker = Callable[[Check, Path], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an apply did. `revision` is in force; `previous` was, or None. `drifted` had been edited by hand."""

    revision: int
    previous: int | None
    files: tuple[FileChange, ...]
    units: Applied
    drifted: tuple[PurePosixPath, ...] = ()

    @property
    def changed(self) -> bool:
        return self.revision != self.previous


@dataclass(frozen=True, slots=True)
class Preview:
    """What an apply would do. `lines` are a unified diff with secrets left out."""

    in_force: int | None
    difference: Difference
    lines: tuple[str, ...]
    drifted: tuple[PurePosixPath, ...]


class Failed(Fault):
    """An apply that did not happen. `step` is where it failed, `in_force` the revision that counts now."""

    def __init__(self, step: str, fault: Fault, in_force: int | None, hint: str = "") -> None:
        self.step = step
        self.in_force = in_force
        self.exit_code = fault.exit_code
        now = f"revision {in_force} is in force" if in_force is not None else "nothing is in force, nothing runs"
        super().__init__(step, str(fault), hint or now)


def nothing(_: object) -> None:
    """The step that nobody watches."""


def run_check(check: Check, tree: Path) -> None:
    """Run an engine's own checker on the staged tree. Raises ProcessFault."""
    argv = tuple(word.replace("{tree}", str(tree)) for word in check.argv)
    process.run(argv, timeout_s=check.timeout_s, package=check.package)


@dataclass(frozen=True, slots=True)
class Transaction:
    """A router's changes. `guard` raises a Fault where nothing may be changed; `step` is called before each operation.

    Every verb that changes something takes the lock, and first goes back if an earlier change died half-way.
    """

    places: Places
    services: Services
    guard: Callable[[], None]
    check: Checker = run_check
    step: Step = nothing

    @property
    def store(self) -> Store:
        return Store(self.places, self.step)

    def apply(self, rendered: Sequence[Rendered], message: Message) -> Outcome:
        """Bring `rendered` into force. Raises Failed; then the previous revision is in force, or still is.

        With nothing changed, no revision is made; services that are down are started.
        """
        self.guard()
        with self.store.locked():
            self._recover()
            old = self._old()
            parts = old.parts if old is not None else ()
            difference = compare(parts, rendered)
            if old is not None and difference.nothing:
                return Outcome(old.number, old.number, (), self.services.apply(units_of(rendered)))
            before = old.number if old is not None else None
            number = max(self.store.numbers(), default=0) + 1
            self._prepare(number, before, rendered, difference, message)
            applied = self._enforce(Journal(before, number), parts, rendered, difference)
            with suppress(Fault):  # the change has happened; the next one prunes again
                self.store.prune()
            drifted = old.drifted if old is not None else ()
            return Outcome(number, before, difference.files, applied, drifted)

    def preview(self, rendered: Sequence[Rendered]) -> Preview:
        """What apply() would do; changes nothing. Raises Fault."""
        old = self._old()
        parts = old.parts if old is not None else ()
        return Preview(
            old.number if old is not None else None,
            compare(parts, rendered),
            tuple(show(parts, rendered)),
            old.drifted if old is not None else (),
        )

    def rollback(self, number: int, message: Message) -> Outcome:
        """Bring an earlier revision's content into force, as a new revision: history only grows. Raises Failed."""
        stored = self.store.load(number)
        if stored.drifted:
            names = ", ".join(map(str, stored.drifted))
            raise Fault(f"revision {number}", f"was edited by hand: {names}", "go back to another one")
        return self.apply(stored.parts, message)

    def diff(self, one: int, other: int) -> tuple[str, ...]:
        """Unified diff between two revisions. Raises Fault."""
        return tuple(show(self.store.load(one).parts, self.store.load(other).parts))

    def history(self) -> tuple[Revision, ...]:
        return self.store.history()

    def in_force(self) -> int | None:
        return self.store.in_force()

    def start(self) -> int | None:
        """After boot, or after a change that died: go back if need be, and have the services of the revision in force.

        Returns its number, None if there is none. Raises Fault.
        """
        self.guard()
        with self.store.locked():
            self._recover()
            old = self._old()
            if old is None:
                return None
            self.services.apply(units_of(old.parts))
            return old.number

    def stop(self) -> None:
        """Stop all services; the revision stays in force for the next start."""
        self.guard()
        with self.store.locked():
            self.services.apply(())

    def recover(self) -> int | None:
        """Go back to the old revision if a change died before it was done. Returns what is in force. Raises Fault."""
        self.guard()
        with self.store.locked():
            self._recover()
            return self.store.in_force()

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
        self, journal: Journal, old: Sequence[Rendered], new: Sequence[Rendered], difference: Difference
    ) -> Applied:
        try:
            self.store.open_journal(journal)
            self.store.keep(journal.after)
            applied = self._switch(journal.after, new, difference)
            self.store.close_journal()
        except Fault as fault:
            try:
                self._go_back(journal, old, new, _reached(fault))
            except Fault as second:
                hint = f"going back failed as well: {second}; mend that and run `dmvpn apply`"
                raise Failed("switch", fault, self.store.in_force(), hint) from second
            raise Failed("switch", fault, journal.before) from fault
        except BaseException:  # Ctrl-C leaves nothing half done
            self._go_back(journal, old, new)
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
    ) -> None:
        """`reached` are the units that saw the new revision; None if nobody knows, then all are brought back."""
        back = compare(new, old)
        if reached is not None:
            back = replace(
                back,
                restart=tuple(name for name in back.restart if name in reached),
                reload=tuple(name for name in back.reload if name in reached),
            )
        self._switch(journal.before, old, back)
        self.store.discard(journal.after)
        self.store.close_journal()

    def _recover(self) -> None:
        journal = self.store.journal()
        if journal is not None:
            # Without the new revision's directory its rename had not happened, and so nothing after it either.
            old = self.store.load(journal.before).parts if journal.before is not None else ()
            new = self.store.load(journal.after).parts if journal.after in self.store.numbers() else old
            self._go_back(journal, old, new)
        self.store.sweep()


def _reached(fault: Fault) -> Collection[str] | None:
    if not isinstance(fault, ServiceFault):
        return None
    applied = fault.applied
    return {*applied.started, *applied.restarted, *applied.reloaded}
