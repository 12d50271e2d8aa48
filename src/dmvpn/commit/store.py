"""Revisions on disk, and the link that says which one is in force.

    REVISIONS/000007/tree/...        the files
    REVISIONS/000007/revision.json   number, when, who, why, digest, checks and units
    REVISIONS/journal.json           while a switch is under way: from which revision to which
    CURRENT -> REVISIONS/000007/tree

A revision is staged under another name, written to the disk, and then renamed: it is whole or it is not there.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dmvpn.commit.revision import Message, Revision, Stored, digest_of, files_of, from_json, to_json
from dmvpn.errors import Fault
from dmvpn.linux import files
from dmvpn.render.result import Rendered

KEPT = 50
_STAGED = ".staged."

Step = Callable[[str], None]
"""Called before each operation that the disk or a service sees: tests die there."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where this router's revisions are, and the symlink to the tree in force."""

    current: Path
    revisions: Path


@dataclass(frozen=True, slots=True)
class Journal:
    """A switch under way. None stands for "no revision at all"."""

    before: int | None
    after: int


@dataclass(frozen=True, slots=True)
class Store:
    """The disk's side of a commit. Every method raises Fault."""

    places: Places
    step: Step

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One change at a time; the lock goes with its holder, however that ends."""
        files.make_directory(self.places.revisions)
        path = self.places.revisions / "lock"
        with files.faults(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Fault(
                    "apply", "another change of this network is under way", "wait until it has ended"
                ) from error
            yield
        finally:
            os.close(descriptor)

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
        """A revision with its files as they are now on disk."""
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
        texts = (files.read_text(self._directory(number) / "revision.json") for number in self.numbers())
        return tuple(from_json(text, lambda _: None).revision for text in texts)

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
        if number is None:
            files.remove(self.places.current)
        else:
            files.make_directory(self.places.current.parent)
            files.replace_symlink(self.places.current, self.tree(number))

    def open_journal(self, journal: Journal) -> None:
        self.step("open the journal")
        files.write_secret(self._journal, json.dumps({"before": journal.before, "after": journal.after}))

    def journal(self) -> Journal | None:
        if not self._journal.exists():
            return None
        try:
            value = json.loads(files.read_text(self._journal, limit_octets=4096))
            before = value["before"]
            return Journal(None if before is None else int(before), int(value["after"]))
        except (ValueError, KeyError, TypeError) as error:
            raise Fault(str(self._journal), "cannot be read", "remove it, then apply again") from error

    def close_journal(self) -> None:
        """From here on the switch has happened."""
        self.step("close the journal")
        files.remove(self._journal)

    def discard(self, number: int) -> None:
        """Remove a revision that never came into force, staged or kept."""
        self.step(f"discard revision {number}")
        files.remove_tree(self._staged(number))
        files.remove_tree(self._directory(number))

    def sweep(self) -> None:
        """Remove what a change that died left behind."""
        if self.places.revisions.is_dir():
            for left in [*self.places.revisions.glob(f"{_STAGED}*"), *self.places.revisions.glob(".gone.*")]:
                files.remove_tree(left)

    def prune(self) -> None:
        """Keep the last 50, and the one in force."""
        in_force = self.in_force()
        for number in self.numbers()[:-KEPT]:
            if number != in_force:
                self.step(f"remove revision {number}")
                files.remove_tree(self._directory(number))

    @property
    def _journal(self) -> Path:
        return self.places.revisions / "journal.json"

    def _directory(self, number: int) -> Path:
        return self.places.revisions / f"{number:06}"

    def _staged(self, number: int) -> Path:
        return self.places.revisions / f"{_STAGED}{number:06}"
