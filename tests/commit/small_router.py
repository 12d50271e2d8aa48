"""A small router for tests of commit: units that are real processes and leave behind what they have loaded."""

import os
import select
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from dmvpn.commit.revision import Message
from dmvpn.commit.store import Places, Step
from dmvpn.commit.transaction import Transaction, nothing
from dmvpn.linux.services import Supervised
from dmvpn.render.result import Change, Check, File, Rendered, Unit

MESSAGE = Message("anna", "a test", 1_700_000_000.0)


def permitted() -> None:
    """The guard that permits everything."""


@dataclass(frozen=True)
class Router:
    root: Path
    disk: Path | None = None  # where revisions and the link are, if not in root
    services: Supervised = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "services", Supervised("t", self.root / "run"))
        self.loaded_in.mkdir(parents=True, exist_ok=True)

    @property
    def places(self) -> Places:
        disk = self.disk or self.root
        return Places(disk / "etc" / "current", disk / "revisions")

    @property
    def loaded_in(self) -> Path:
        return self.root / "loaded"

    def transaction(self, step: Step = nothing) -> Transaction:
        return Transaction(self.places, self.services, permitted, step=step)

    def engine(self, name: str, text: str, kind: str = "daemon", broken: str = "") -> Rendered:
        """A unit that copies its file to `loaded` when it starts or reloads, and removes the copy when it stops."""
        config, loaded = self.places.current / name, self.loaded_in / name
        load = broken or f"cp {config} {loaded}"
        # Stopping needs the unit's own file: a unit that goes must be stopped while it still stands.
        stop = ("sh", "-c", f"test -f {config} && rm -f {loaded}")
        start = load if kind == "one-shot" else f"{load} && exec sleep 1000"
        path = PurePosixPath(name)
        unit = Unit(
            name,
            ("sh", "-c", start),
            "coreutils",
            daemon=kind != "one-shot",
            reload=("sh", "-c", load) if kind == "reloads" else (),
            stop=stop,
            ready=PurePosixPath(loaded),
            reads=(path,),
            on_change=Change.RELOAD if kind == "reloads" else Change.RESTART,
            start_timeout_s=5.0,
        )
        check = Check(("grep", "-q", "good", f"{{tree}}/{name}"), "grep")
        return Rendered(name, (File(path, text),), (check,), (unit,))

    def loaded(self) -> dict[str, str]:
        """What the units have in force: by unit, the text it has loaded."""
        return {path.name: path.read_text() for path in self.loaded_in.iterdir()}

    def linked(self) -> dict[str, str]:
        """What the link leads to."""
        tree = self.places.current
        return {path.name: path.read_text() for path in tree.iterdir()} if tree.exists() else {}

    def running(self) -> set[str]:
        """Units that work."""
        return {row.name for row in self.services.status() if row.state == "ready"}

    def leftovers(self) -> list[str]:
        """What a change must not leave behind."""
        revisions, beside = self.places.revisions, self.places.current.parent
        found = [*revisions.iterdir()] if revisions.is_dir() else []
        found += [*beside.iterdir()] if beside.is_dir() else []
        return [entry.name for entry in found if entry.name.startswith((".", "journal"))]

    def is_exactly(self, parts: Sequence[Rendered]) -> bool:
        """The link, the units and what they loaded are those of `parts`, and nothing else is there."""
        want = {str(file.path): file.text for part in parts for file in part.files}
        facts = (self.linked(), self.loaded(), self.running(), self.leftovers())
        return facts == (want, want, set(want), [])

    def kill_supervisor(self) -> None:
        """As a power cut: nothing is stopped in order."""
        pids = [row.pid for row in self.services.status() if row.pid is not None]
        if pids:
            keeper = int(Path(f"/proc/{pids[0]}/stat").read_text().rsplit(")", 1)[1].split()[1])
            descriptor = os.pidfd_open(keeper)
            os.kill(keeper, signal.SIGKILL)
            select.select((descriptor,), (), (), 10.0)
            os.close(descriptor)

    def old(self) -> list[Rendered]:
        """Four units, each of another kind; `gone` is not in new()."""
        return [
            self.engine("net", "good old net", "one-shot"),
            self.engine("gone", "good old gone"),
            self.engine("bgp", "good old bgp", "reloads"),
            self.engine("ike", "good old ike"),
        ]

    def new(self) -> list[Rendered]:
        return [
            self.engine("net", "good new net", "one-shot"),
            self.engine("bgp", "good new bgp", "reloads"),
            self.engine("added", "good new added"),
            self.engine("ike", "good new ike"),
        ]
