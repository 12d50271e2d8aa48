"""A change that moves the services to another keeper: whatever becomes of it, one keeper has all of them."""

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from small_router import MESSAGE, Router

from dmvpn.commit.outcome import Edited, Failed, Unverified
from dmvpn.commit.transaction import Transaction
from dmvpn.errors import Fault
from dmvpn.linux.services import Applied, Service, ServiceStatus, Supervised
from dmvpn.render.result import Rendered

HERE, THERE = Rendered("here", ()), Rendered("there", ())


@dataclass(frozen=True)
class Two:
    """Two supervisors, and on record which of them keeps the services."""

    root: Path

    @property
    def record(self) -> Path:
        return self.root / "keeper"

    def keeper(self, name: str) -> Supervised:
        return Supervised(name, self.root / f"run-{name}")

    @property
    def _now(self) -> Supervised:
        return self.keeper(self.record.read_text())

    def hand_over(self, parts: Sequence[Rendered]) -> None:
        engines = {part.engine for part in parts}
        name = next((name for name in ("here", "there") if name in engines), "")
        if name and name != self.record.read_text():
            self._now.apply(())
            self.record.write_text(name)

    def apply(
        self, services: Sequence[Service], *, restart: Collection[str] = (), reload: Collection[str] = ()
    ) -> Applied:
        return self._now.apply(services, restart=restart, reload=reload)

    def start(self, name: str) -> None:
        self._now.start(name)

    def stop(self, name: str) -> None:
        self._now.stop(name)

    def restart(self, name: str) -> None:
        self._now.restart(name)

    def reload(self, name: str) -> None:
        self._now.reload(name)

    def status(self) -> tuple[ServiceStatus, ...]:
        return self._now.status()

    def log(self, name: str) -> Path:
        return self._now.log(name)

    def pids(self, name: str) -> dict[str, int | None]:
        return {row.name: row.pid for row in self.keeper(name).status()}


@dataclass(frozen=True)
class Standing:
    """A router whose services are kept here; `pids` are theirs."""

    router: Router
    two: Two
    pids: dict[str, int | None]

    @property
    def transaction(self) -> Transaction:
        return replace(self.router.transaction(), services=self.two, hand_over=self.two.hand_over)

    def serves_old(self) -> bool:
        router, old = self.router, {"net", "gone", "bgp", "ike"}
        loaded = router.loaded() == {str(file.path): file.text for part in router.old() for file in part.files}
        return loaded and set(self.two.pids("here")) == old and self.two.pids("there") == {}


@pytest.fixture
def standing(router: Router, tmp_path: Path) -> Iterator[Standing]:
    two = Two(tmp_path)
    two.record.write_text("here")
    replace(router.transaction(), services=two, hand_over=two.hand_over).apply([*router.old(), HERE], MESSAGE)
    yield Standing(router, two, two.pids("here"))
    for name in ("here", "there"):
        two.keeper(name).shut_down()


def test_it_moves(standing: Standing) -> None:
    router, two = standing.router, standing.two
    standing.transaction.apply([*router.new(), THERE], MESSAGE)
    assert two.pids("here") == {}
    assert set(two.pids("there")) == {"net", "bgp", "added", "ike"}
    assert set(router.loaded()) == set(two.pids("there"))
    # And back, with the revision whose keeper was the other.
    standing.transaction.rollback(1, MESSAGE)
    assert standing.serves_old()


def test_what_is_refused_before_the_switch_stops_nothing(standing: Standing) -> None:
    router = standing.router
    refusing = [*router.new()[:-1], router.engine("ike", "bad new ike"), THERE]
    with pytest.raises(Failed, match=r"check ike: .*; revision 1 is in force"):
        standing.transaction.apply(refusing, MESSAGE)
    assert standing.two.pids("here") == standing.pids
    (router.places.current / "ike").write_text("good edited")
    with pytest.raises(Edited):
        standing.transaction.apply([*router.new(), THERE], MESSAGE)
    assert standing.two.pids("here") == standing.pids


def test_while_a_change_waits_nothing_moves(standing: Standing) -> None:
    standing.transaction.apply([*standing.router.new(), HERE], MESSAGE, confirm_within_s=300.0)
    pids = standing.two.pids("here")
    with pytest.raises(Fault, match="revision 2 waits to be confirmed"):
        standing.transaction.apply([*standing.router.new(), THERE], MESSAGE)
    assert standing.two.pids("here") == pids


def test_if_a_service_does_not_start_there_all_run_here_again(standing: Standing) -> None:
    router = standing.router
    broken = [*router.new()[:-1], router.engine("ike", "good new ike", broken="exit 1"), THERE]
    with pytest.raises(Failed, match=r"switch: ike: .*; revision 1 is in force"):
        standing.transaction.apply(broken, MESSAGE)
    assert standing.serves_old()


def test_if_the_network_does_not_come_back_all_run_here_again(standing: Standing) -> None:
    def look_again() -> None:
        raise Unverified("the network", "hub hq1 did not come back")

    with pytest.raises(Failed, match=r"verify: .*; revision 1 is in force"):
        replace(standing.transaction, verify=lambda: look_again).apply([*standing.router.new(), THERE], MESSAGE)
    assert standing.serves_old()


def test_what_nobody_confirms_moves_back(standing: Standing) -> None:
    standing.transaction.apply([*standing.router.new(), THERE], MESSAGE, confirm_within_s=300.0)
    assert standing.transaction.undo("nobody confirmed it") is not None
    assert standing.serves_old()


@pytest.mark.parametrize(
    "place", ["hand the services over", "point the link to revision 2", "bring the services to it", "verify"]
)
def test_wherever_it_dies_the_next_start_has_them_here(standing: Standing, place: str) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            replace(standing.transaction, step=lambda step: os._exit(77) if step == place else None).apply(
                [*standing.router.new(), THERE], MESSAGE
            )
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 77
    standing.transaction.start()
    assert standing.serves_old()
