"""What `status` says of a cloud's plane."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from dmvpn.cli import observe
from dmvpn.operations import here, observing


@pytest.mark.parametrize(
    ("plane", "aes", "said"),
    [
        pytest.param("kernel", True, "blue: kernel plane, AES in the processor\n", id="kernel"),
        pytest.param("kernel", False, "blue: kernel plane, no AES in the processor\n", id="kernel, slow"),
        pytest.param(
            "userspace", True, "blue: userspace plane, AES in the processor, GRE socket bound\n", id="userspace"
        ),
    ],
)
def test_the_plane_and_the_processor(
    plane: str, aes: object, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud = SimpleNamespace(
        name="blue", addresses=("10.255.1.1",), role="hub", device="blue", mtu_octets=1400, plane=plane,
        encrypted=True, socket="bound", drops={},
    )  # fmt: skip
    found = SimpleNamespace(
        uptime_s=1.0, router="hq1", network="acme", transport="100.64.0.1", charon="charon 5.9", clouds=(cloud,),
        aes=aes, guards={}, peers=(), troubles=(),
    )  # fmt: skip
    monkeypatch.setattr(here, "find", lambda _network: Path())
    monkeypatch.setattr(observing, "status", lambda _place: found)
    observe.status()
    assert said in capsys.readouterr().out
