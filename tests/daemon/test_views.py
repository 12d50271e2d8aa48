"""Rows of `status` from an engine's view that is made up; what real routers say is in tests/vpn."""

from types import SimpleNamespace
from typing import Any

import pytest

from dmvpn.daemon import views
from dmvpn.nhrp.shortcut import ShortcutState, WhyNot


@pytest.mark.parametrize(
    ("state", "why", "rows"),
    [
        pytest.param(ShortcutState.NEGATIVE, WhyNot.VIA_HUB, 0, id="the hub is the far end: nothing is wrong"),
        pytest.param(ShortcutState.NEGATIVE, WhyNot.NO_ANSWER, 1, id="relayed, and could be better"),
        pytest.param(ShortcutState.RESOLVING, WhyNot.VIA_HUB, 1, id="asked for again"),
    ],
)
def test_what_is_direct_by_its_hub_is_no_shortcut_that_failed(
    state: ShortcutState, why: WhyNot, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shortcut = SimpleNamespace(state=state, why=why, nbma=None, destination="10.1.0.10")
    view: Any = SimpleNamespace(hubs=(), bindings=(), shortcuts=(shortcut,))
    node: Any = None
    monkeypatch.setattr(views, "_shortcut", lambda *_: "row")
    assert len(views._peers(node, "blue", view)) == rows
