"""A rendered unit as its keeper starts it, with the paths of its layout in a test's own directory."""

import os
import signal
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from dmvpn.linux import process
from dmvpn.linux.supervisor_child import Child, spawn
from dmvpn.render.layout import Layout
from dmvpn.render.result import Rendered


@dataclass(slots=True)
class RenderedUnit:
    """The only unit of `rendered`."""

    rendered: Rendered
    layout: Layout
    directory: Path
    started: list[Child] = field(default_factory=list)

    @property
    def log(self) -> Path:
        return self.directory / "log"

    def start(self) -> None:
        for file in self.rendered.files:
            path = self.directory / "current" / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(file.text)
            path.chmod(file.mode)
        (unit,) = self.rendered.units
        argv = tuple(str(self._moved(PurePosixPath(word))) if word.startswith("/") else word for word in unit.argv)
        binds = tuple((self._moved(source), Path(place)) for source, place in unit.binds)
        for source, _ in binds:
            if not source.exists():
                source.mkdir(parents=True)
        environment = dict(os.environ)
        self.started.append(
            spawn((process.find(argv[0]), *argv[1:]), environment=environment, output=self.log, binds=binds)
        )

    def stop(self) -> None:
        for child in self.started:
            os.kill(child.pid, signal.SIGTERM)
            os.waitpid(child.pid, 0)
        self.started.clear()

    def _moved(self, path: PurePosixPath) -> Path:
        for name, place in (("current", self.layout.current), ("run", self.layout.run), ("state", self.layout.state)):
            if path.is_relative_to(place):
                return self.directory / name / path.relative_to(place)
        return Path(path)
