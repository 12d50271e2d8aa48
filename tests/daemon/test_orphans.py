"""Routing daemons that are older than zebra, as dmvpnd sees them: zebra and who keeps the services are played."""

import asyncio
import os
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from dmvpn.daemon import orphans
from dmvpn.errors import Fault
from dmvpn.linux import vtysh

REFUSED = Fault("dmvpn-acme-bgpd", "did not start")


class Keeper:
    def __init__(self) -> None:
        self.restarted: list[str] = []
        self.refusals: list[Fault] = []

    def restart(self, name: str) -> None:
        self.restarted.append(name)
        if self.refusals:
            raise self.refusals.pop()


def live(
    seen: list[tuple[Any, tuple[str, ...]]], monkeypatch: pytest.MonkeyPatch, *refusals: Fault, again_s: float = 0.0
) -> tuple[Any, Any]:
    """One look for each of `seen`, and the last one again and again."""
    keeper = Keeper()
    keeper.refusals += refusals
    looks = iter(seen)
    monkeypatch.setattr(orphans, "LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(orphans, "AGAIN_FIRST_S", again_s)
    monkeypatch.setattr(orphans, "AGAIN_LAST_S", 8 * again_s)
    monkeypatch.setattr(orphans.keepers, "of_this_process", lambda *_: keeper)
    monkeypatch.setattr(orphans.vtysh, "older_than_zebra", lambda _: next(looks, seen[-1]))
    paths = SimpleNamespace(frr_run=Path("/run"), gre=Path("/run/gre"))
    found = orphans.Orphans(cast(Any, SimpleNamespace(paths=paths, network="acme")))

    async def some_time() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(found.run(), 0.2)

    asyncio.run(some_time())
    return keeper.restarted, found


NEW, NEWER = (7, 200), (8, 300)


@pytest.mark.parametrize(
    ("seen", "restarted"),
    [
        pytest.param([(NEW, ())], [], id="all are younger"),
        pytest.param([(None, ())], [], id="no zebra"),
        pytest.param([(NEW, ("bgpd",)), (NEW, ())], [], id="started in between"),
        pytest.param([(NEW, ("bgpd",))], ["dmvpn-acme-bgpd"], id="once, whatever the clock says"),
        pytest.param(
            [*[(NEW, ("bgpd",))] * 3, (NEW, ()), *[(NEWER, ("bgpd", "ospfd"))] * 3, (NEWER, ())],
            ["dmvpn-acme-bgpd", "dmvpn-acme-bgpd", "dmvpn-acme-ospfd"],
            id="once for each zebra",
        ),
    ],
)
def test_who_is_older_than_zebra_is_restarted(
    seen: list[tuple[Any, tuple[str, ...]]], restarted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    done, found = live(seen, monkeypatch)
    assert sorted(done) == sorted(restarted)
    assert found.troubles == ()


def test_a_restart_that_fails_is_tried_again_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert live([(NEW, ("bgpd",))], monkeypatch, REFUSED)[0] == ["dmvpn-acme-bgpd"] * 2
    done, found = live([(NEW, ("bgpd",))], monkeypatch, *[REFUSED] * 100_000)
    assert len(done) > 2
    assert "bgpd, which told the one before its routes, cannot be restarted" in found.troubles[0].what


def test_one_that_did_not_come_up_again_is_older_than_nothing_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    done, found = live([*[(NEW, ("bgpd",))] * 2, (NEW, ())], monkeypatch, REFUSED)
    assert (done, found.troubles) == (["dmvpn-acme-bgpd"] * 2, ())


def test_a_restart_that_fails_is_tried_less_and_less_often_and_others_do_not_wait_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    both = [*[(NEW, ("bgpd",))] * 3, (NEW, ("bgpd", "ospfd"))]
    done, _found = live(both, monkeypatch, *[REFUSED] * 100_000, again_s=0.02)
    assert 2 <= done.count("dmvpn-acme-bgpd") <= 5, "at 0, 0.02, 0.06, 0.14 s"
    assert "dmvpn-acme-ospfd" in done[:3]


def test_while_there_is_no_zebra_a_failed_one_is_not_taken_for_healed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orphans.vtysh, "is_served", lambda *_: True)
    _done, found = live([*[(NEW, ("bgpd",))] * 2, (None, ())], monkeypatch, REFUSED)
    assert len(found.troubles) == 1


def test_one_that_somebody_else_started_is_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orphans.vtysh, "is_served", lambda *_: True)
    done, found = live([*[(NEW, ("bgpd",))] * 2, (NEW, ())], monkeypatch, REFUSED)
    assert (done, found.troubles) == (["dmvpn-acme-bgpd"], ())


def test_age_is_told_by_sockets(tmp_path: Path) -> None:
    assert vtysh.older_than_zebra(tmp_path) == (None, ())
    listening = []
    for name, made in (("zserv.api", 200), ("bgpd.vty", 100), ("ospfd.vty", 300), ("ripd.vty", 100)):
        door = socket.socket(socket.AF_UNIX)
        door.bind(str(tmp_path / name))
        os.utime(tmp_path / name, ns=(made, made))
        if name != "ripd.vty":  # left behind
            door.listen()
        listening.append(door)
    zebra, older = vtysh.older_than_zebra(tmp_path)
    assert (zebra, older) == (vtysh.made(tmp_path / "zserv.api"), ("bgpd",))
    for door in listening:
        door.close()
