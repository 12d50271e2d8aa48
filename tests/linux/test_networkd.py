"""Whether another program sets a device as well, as systemd-networkd writes it down."""

from pathlib import Path

import pytest

from dmvpn.linux import networkd


@pytest.mark.parametrize(
    ("text", "sets"),
    [
        pytest.param("# private\nADMIN_STATE=configured\nOPER_STATE=routable\n", True, id="it does"),
        pytest.param("ADMIN_STATE=configuring\n", True, id="it is about to"),
        pytest.param("ADMIN_STATE=unmanaged\nOPER_STATE=routable\n", False, id="it was told not to"),
        pytest.param(None, False, id="it does not run"),
    ],
)
def test_what_networkd_says_of_a_link(
    text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, sets: bool
) -> None:
    monkeypatch.setattr(networkd, "LINKS", tmp_path)
    if text is not None:
        (tmp_path / "7").write_text(text)
    assert networkd.sets(7) is sets
