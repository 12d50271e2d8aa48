"""Revisions on disk, and the link that says which one is in force.

    REVISIONS/000007/tree/...        the files
    REVISIONS/000007/revision.json   number, when, who, why, digest, checks and units, and the files as written
    REVISIONS/000007/undone.json     if it was taken back after it had been in force: why
    REVISIONS/edits/000007-1/...     what somebody had edited in it, when an apply was told to discard that
    REVISIONS/journal.json           while a switch is under way: from which revision to which
    REVISIONS/unconfirmed.json       while a change waits to be confirmed: until when (deadline.py)
    REVISIONS/lock                   held by whoever changes something; says who that is
    CURRENT -> REVISIONS/000007/tree

A revision is staged under another name, written to the disk, and then renamed: it is whole or it is not there.
"""

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath

from dmvpn.commit.deadline import Deadline
from dmvpn.commit.revision import Message, Revision, Stored, digest_of, files_of, from_json, to_json
from dmvpn.errors import Fault
from dmvpn.linux import files
from dmvpn.render.result import Rendered

KEPT = 50
_STAGED = ".staged."
_UNDONE = "undone.json"
_LOOK_S = 0.05

Step = Callable[[str], None]
"""Called before each operation that the disk or a service sees: tests die there."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where this router's revisions are, and the symlink to the tree in force."""

    current: Path
    revisions: Path


@dataclass(frozen=True, slots=True)
class Journal:
    """A switch under way. None stands for "no revision at all". `undoing` says why `after` is being taken back."""

    before: int | None
    after: int
    undoing: str = ""


class Busy(Fault):
    """Somebody else holds the lock."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Whoever holds the lock, in its own words."""

    pid: int
    who: str


@dataclass(frozen=True, slots=True)
class Store:
    """The disk's side of a commit. Every method raises Fault."""

    places: Places
    step: Step

    @contextmanager
    def locked(self, who: str, *, wait_s: float = 0.0) -> Iterator[None]:
        """One change at a time; the lock goes with its holder, however that ends. `who` is for those who must wait."""
        files.make_directory(self.places.revisions)
        with files.faults(self._lock):
            descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._take(descriptor, wait_s)
            with suppress(OSError):  # a full disk: the lock counts, not the words
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()} {who}\n".encode(), 0)
            try:
                yield
            finally:
                with suppress(OSError):
                    os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)

    def _take(self, descriptor: int, wait_s: float) -> None:
        until = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() < until:
                    time.sleep(_LOOK_S)
                    continue
                holder = self.holder()
                by = f": {holder.who} (pid {holder.pid})" if holder is not None else ""
                what = f"another change of this network is under way{by}"
                raise Busy("apply", what, "wait until it has ended") from error
            return

    def holder(self) -> Holder | None:
        """Who says to hold the lock, or held it and died."""
        with suppress(Fault):
            pid, _, who = files.read_text(self._lock, limit_octets=4096).strip().partition(" ")
            if pid.isascii() and pid.isdigit():
                return Holder(int(pid), who)
        return None

    def numbers(self) -> tuple[int, ...]:
        """Revisions there are, oldest first."""
        if not self.places.revisions.is_dir():
            return ()
        with files.faults(self.places.revisions):
            names = [entry.name for entry in self.places.revisions.iterdir()]
        return tuple(sorted(int(name) for name in names if name.isascii() and name.isdigit()))

    def in_force(self) -> int | None:
        """Number of the revision that the link points to. Raises Fault if it points anywhere else."""
        link = self.places.current
        try:
            target = link.readlink()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Fault(str(link), "is not the link that apply makes", "move it away") from error
        name = target.parent.name
        if target != self.tree(int(name) if name.isdigit() else 0):
            raise Fault(str(link), f"points to {target}, which is no revision", "remove it, then apply again")
        return int(name)

    def tree(self, number: int) -> Path:
        return self._directory(number) / "tree"

    def load(self, number: int) -> Stored:
        """A revision, with its files as written and as they are now on disk."""
        directory = self._directory(number)
        if not directory.is_dir():
            known = ", ".join(map(str, self.numbers()[-8:])) or "none"
            raise Fault(f"revision {number}", "does not exist", f"there are: {known}")

        def read(path: PurePosixPath) -> str | None:
            try:
                return files.read_text(directory / "tree" / path)
            except Fault:  # gone, or no text any more: somebody's hand
                return None

        return from_json(files.read_text(directory / "revision.json"), read)

    def history(self) -> tuple[Revision, ...]:
        """Oldest first."""
        return tuple(self._line(number) for number in self.numbers())

    def _line(self, number: int) -> Revision:
        directory = self._directory(number)
        line = from_json(files.read_text(directory / "revision.json"), lambda _: None).revision
        if not (directory / _UNDONE).exists():
            return line
        try:
            return replace(
                line, undone=str(json.loads(files.read_text(directory / _UNDONE, limit_octets=65536))["why"])
            )
        except (Fault, ValueError, KeyError, TypeError):
            return replace(line, undone="taken back")  # a full disk had no room for why

    def note_undone(self, number: int, why: str) -> None:
        """Keep the revision and say why it is no longer in force."""
        self.step(f"note why revision {number} was undone")
        files.write(self._directory(number) / _UNDONE, json.dumps({"why": why}))

    def keep_edits(self, stored: Stored) -> Path:
        """Copy what was edited by hand in a revision to where nothing removes it. Returns the directory."""
        directory = self.place_of_edits(stored.number)
        self.step("keep what was edited by hand")
        for path in stored.drifted:
            found = self.tree(stored.number) / path
            if found.is_file():
                files.make_directory((directory / path).parent, mode=0o700)
                files.create(directory / path, files.read(found), mode=files.SECRET_MODE)
        return directory

    def place_of_edits(self, number: int) -> Path:
        """A directory that is not there yet, for copies of what was edited while a revision was in force."""
        above = self.places.revisions / "edits"
        count = len(list(above.glob(f"{number:06}-*"))) if above.is_dir() else 0
        return above / f"{number:06}-{count + 1}"

    def stage(self, number: int, parts: Sequence[Rendered], message: Message) -> Path:
        """Write the revision under a name that does not count yet. Returns its tree."""
        directory = self._staged(number)
        files.remove_tree(directory)
        tree = directory / "tree"
        self.step(f"make {directory.name}")
        files.make_directory(tree)
        for path, file in files_of(parts).items():
            files.make_directory((tree / path).parent)
            self.step(f"write {path}")
            files.create(tree / path, file.text, mode=file.mode)
        self.step("write revision.json")
        # It has arguments and environment of units; the contents beside it have modes of their own.
        revision = Revision(number, message, digest_of(parts))
        files.create(directory / "revision.json", to_json(revision, parts), mode=files.SECRET_MODE)
        self.step("sync the staged directories")
        with files.faults(directory):
            for inner in (*(entry for entry in directory.rglob("*") if entry.is_dir()), directory):
                files.sync_directory(inner)
        return tree

    def keep(self, number: int) -> None:
        """Give the staged revision its name."""
        self.step(f"rename to revision {number}")
        files.rename(self._staged(number), self._directory(number))

    def point_to(self, number: int | None) -> None:
        """Swap the link, in one step."""
        self.step(f"point the link to revision {number}")
        if number == self.in_force():
            return
        if number is None:
            files.remove(self.places.current)
        else:
            files.make_directory(self.places.current.parent)
            files.replace_symlink(self.places.current, self.tree(number))

    def open_journal(self, journal: Journal) -> None:
        self.step("open the journal")
        files.write_secret(self._journal, json.dumps(asdict(journal)))

    def journal(self) -> Journal | None:
        if not self._journal.exists():
            return None
        try:
            value = json.loads(files.read_text(self._journal, limit_octets=4096))
            before = value["before"]
            return Journal(None if before is None else int(before), int(value["after"]), str(value["undoing"]))
        except (ValueError, KeyError, TypeError) as error:
            raise Fault(str(self._journal), "cannot be read", "remove it, then apply again") from error

    def close_journal(self) -> None:
        """From here on the switch has happened."""
        self.step("close the journal")
        files.remove(self._journal)

    def set_deadline(self, deadline: Deadline) -> None:
        self.step("set the deadline")
        files.write(self._deadline, deadline.to_json())  # `status` shows it to those who may only read

    def deadline(self) -> Deadline | None:
        """Of a change that waits to be confirmed; None if none does. Raises Fault."""
        try:
            return Deadline.from_json(files.read_text(self._deadline, limit_octets=4096))
        except Fault:
            if self._deadline.exists():
                raise
            return None

    def clear_deadline(self) -> None:
        if self._deadline.exists():
            self.step("clear the deadline")
            files.remove(self._deadline)

    def discard(self, number: int) -> None:
        """Remove a revision that never came into force, staged or kept."""
        self.step(f"discard revision {number}")
        files.remove_tree(self._staged(number))
        files.remove_tree(self._directory(number))

    def sweep(self) -> None:
        """Remove what a change that died left behind."""
        # All that begins with a dot was on its way to another name.
        for left in [
            *self.places.revisions.glob(".*"),
            *self.places.current.parent.glob(f".{self.places.current.name}.*"),
        ]:
            files.remove(left) if left.is_symlink() or not left.is_dir() else files.remove_tree(left)

    def prune(self) -> None:
        """Keep the last 50, and the one in force."""
        in_force = self.in_force()
        for number in self.numbers()[:-KEPT]:
            if number != in_force:
                self.step(f"remove revision {number}")
                files.remove_tree(self._directory(number))

    @property
    def _lock(self) -> Path:
        return self.places.revisions / "lock"

    @property
    def _deadline(self) -> Path:
        return self.places.revisions / "unconfirmed.json"

    @property
    def _journal(self) -> Path:
        return self.places.revisions / "journal.json"

    def _directory(self, number: int) -> Path:
        return self.places.revisions / f"{number:06}"

    def _staged(self, number: int) -> Path:
        return self.places.revisions / f"{_STAGED}{number:06}"
