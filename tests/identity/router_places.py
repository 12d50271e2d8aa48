"""A router's own places below a directory of a test's."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

from dmvpn.operations import papers
from dmvpn.render.layout import Layout


@dataclass(frozen=True)
class Elsewhere(Layout):
    top: Path = Path()

    @property
    def etc(self) -> PurePosixPath:
        return PurePosixPath(self.top) / "etc" / self.network

    @property
    def run(self) -> PurePosixPath:
        return PurePosixPath(self.top) / "run" / self.network


def installing_below(top: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have `pki install` of network acme put papers there; where they are then."""
    monkeypatch.setattr(papers, "ETC", top / "etc")
    monkeypatch.setattr(papers, "Layout", lambda network: Elsewhere(network, top))
    return top / "etc/acme/pki"
