"""A change that waits to be confirmed: by which clock, what ends it, and that it always ends."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from small_router import MESSAGE, Router

from dmvpn.commit.deadline import Deadline
from dmvpn.commit.outcome import Failed, Undone, Unverified
from dmvpn.commit.transaction import Transaction
from dmvpn.errors import Fault
from dmvpn.linux.moment import Moment

ARMED = Moment(wall_s=1_800_000_000.0, boot_s=100.0, boot="a")
DEADLINE = Deadline(1, 2, 300.0, ARMED)
YEAR_S = 31_536_000.0


@pytest.mark.parametrize(
    ("passed_s", "wall_jump_s", "boot", "boots", "left_s"),
    [
        pytest.param(0, 0, "a", 0, 300, id="just armed"),
        pytest.param(299, 0, "a", 0, 1, id="a second left"),
        pytest.param(300, 0, "a", 0, 0, id="over"),
        pytest.param(10, YEAR_S, "a", 0, 290, id="the wall clock jumps on"),
        pytest.param(10, -YEAR_S, "a", 0, 290, id="the wall clock jumps back"),
        pytest.param(301, -YEAR_S, "a", 0, -1, id="the wall clock jumps back, and the time is over"),
        pytest.param(120, 0, "b", 0, 180, id="another boot"),
        pytest.param(400, 0, "b", 0, -100, id="another boot, too late"),
        pytest.param(120, YEAR_S, "b", 0, 180 - YEAR_S, id="another boot, years on: over"),
        pytest.param(120, -YEAR_S, "b", 0, 0, id="another boot whose clock fell back: nobody can tell, so over"),
        pytest.param(120, 0, "b", 1, 0, id="a second boot: over"),
        pytest.param(120, 0, "a", 1, 180, id="carried over, in its boot"),
    ],
)
def test_which_clock_counts(passed_s: float, wall_jump_s: float, boot: str, boots: int, left_s: float) -> None:
    boot_s = ARMED.boot_s + passed_s if boot == "a" else 5.0
    now = Moment(ARMED.wall_s + passed_s + wall_jump_s, boot_s, boot)
    assert replace(DEADLINE, boots=boots).left_s(now) == left_s


def test_a_clock_of_this_boot_that_went_back_is_another_boots() -> None:
    assert DEADLINE.left_s(Moment(ARMED.wall_s + 20, ARMED.boot_s - 1, "a")) == 280


def test_a_reboot_carries_the_end_over_once() -> None:
    there = Moment(ARMED.wall_s + 100, 3.0, "b")
    carried = DEADLINE.carried_over(there)
    assert (carried.within_s, carried.armed, carried.boots) == (200, there, 1)
    assert carried.carried_over(replace(there, boot_s=50.0)) == carried
    assert DEADLINE.carried_over(replace(ARMED, boot_s=150.0)) == DEADLINE


def test_a_deadline_comes_back_from_its_json() -> None:
    assert Deadline.from_json(DEADLINE.to_json()) == DEADLINE
    first = replace(DEADLINE, before=None)
    assert Deadline.from_json(first.to_json()) == first


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"before": 1, "after": 2, "within_s": 3, "armed": 4}'])
def test_a_damaged_deadline_is_a_fault(text: str) -> None:
    with pytest.raises(Fault, match=r"^unconfirmed.json: cannot be read"):
        Deadline.from_json(text)


# ---------------------------------------------------------------- in a transaction


@dataclass
class Clock:
    """Both clocks, moved by hand."""

    now: Moment = ARMED

    def __call__(self) -> Moment:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now = replace(self.now, wall_s=self.now.wall_s + seconds, boot_s=self.now.boot_s + seconds)

    def boot(self, after_s: float = 30.0) -> None:
        self.now = Moment(self.now.wall_s + after_s, 3.0, self.now.boot + "+")


@pytest.fixture
def clock() -> Clock:
    return Clock()


def changed(router: Router, clock: Clock, *, first: bool = False) -> Transaction:
    """A router whose new revision waits to be confirmed, for 300 s."""
    transaction = replace(router.transaction(), clock=clock)
    if not first:
        transaction.apply(router.old(), MESSAGE)
    outcome = transaction.apply(router.new(), MESSAGE, confirm_within_s=300.0)
    assert outcome.confirm_s == 300.0
    return transaction


def test_confirmed_it_stays(router: Router, clock: Clock) -> None:
    transaction = changed(router, clock)
    ended = transaction.confirm("anna")
    assert ended is not None
    assert (ended.before, ended.after) == (1, 2)
    assert (transaction.waiting(), transaction.confirm("anna")) == (None, None)
    clock.pass_(1000)
    assert transaction.attend_to(wait_s=0.0) is None
    assert router.is_exactly(router.new())


@pytest.mark.parametrize("first", [False, True], ids=["a change", "first apply"])
def test_unconfirmed_it_goes_back_when_the_time_is_over(router: Router, clock: Clock, *, first: bool) -> None:
    transaction = changed(router, clock, first=first)
    clock.pass_(299)
    assert transaction.attend_to(wait_s=0.0) is None
    assert router.is_exactly(router.new())
    clock.pass_(1)
    before, after = (None, 1) if first else (1, 2)
    assert transaction.attend_to(wait_s=0.0) == Undone(before, after, "nobody confirmed it within 300 s")
    assert router.is_exactly([] if first else router.old())
    last = transaction.history()[-1]
    assert (last.number, last.undone) == (after, "nobody confirmed it within 300 s")
    assert transaction.attend_to(wait_s=0.0) is None
    # And it can be tried again.
    assert transaction.apply(router.new(), MESSAGE).revision == after + 1


def _dies_at(word: str, act: Callable[[Callable[[str], None]], object]) -> None:
    """Have a process act that is gone at a step, with nobody to clean up after it."""

    def step(doing: str) -> None:
        if word in doing:
            os._exit(9)

    pid = os.fork()
    if pid == 0:
        act(step)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9


@pytest.mark.parametrize("word", ["have somebody stand by", "open the journal", "rename to revision", "point the link"])
def test_a_change_that_died_on_its_way_leaves_no_deadline_to_a_later_one(
    router: Router, clock: Clock, word: str
) -> None:
    transaction = replace(router.transaction(), clock=clock)
    transaction.apply(router.old(), MESSAGE)
    _dies_at(word, lambda step: replace(transaction, step=step).apply(router.new(), MESSAGE, confirm_within_s=300.0))
    outcome = transaction.apply(router.new(), MESSAGE)
    assert (outcome.confirm_s, transaction.waiting()) == (None, None)
    clock.pass_(1000)
    assert transaction.attend_to(wait_s=0.0) is None
    assert router.is_exactly(router.new())


def _late_boot(clock: Clock) -> None:
    clock.boot(after_s=500)


def _clock_fell_back(clock: Clock) -> None:
    clock.boot(after_s=-YEAR_S)


@pytest.mark.parametrize("boots", [_late_boot, _clock_fell_back], ids=["too late", "with a clock that fell back"])
def test_a_boot_goes_back_when_the_time_is_over(router: Router, clock: Clock, boots: Callable[[Clock], None]) -> None:
    transaction = changed(router, clock)
    router.kill_supervisor()
    boots(clock)
    number, undone = transaction.start()
    assert (number, undone and undone.after) == (1, 2)
    assert router.running() == {"net", "gone", "bgp", "ike"}


def test_a_boot_in_time_waits_for_what_is_left(router: Router, clock: Clock) -> None:
    attended: list[str] = []
    transaction = replace(changed(router, clock), attend=lambda: attended.append("there"))
    router.kill_supervisor()
    clock.boot(after_s=100)
    assert transaction.start() == (2, None)
    assert attended == ["there"]
    clock.pass_(199)
    assert transaction.attend_to(wait_s=0.0) is None
    clock.pass_(1)
    assert transaction.attend_to(wait_s=0.0) is not None
    assert router.is_exactly(router.old())


def test_one_change_at_a_time(router: Router, clock: Clock) -> None:
    transaction = changed(router, clock)
    clock.pass_(60)
    with pytest.raises(Fault, match="revision 2 waits to be confirmed, for 240 s more; first `dmvpn confirm` or"):
        transaction.apply(router.old(), MESSAGE)
    again = transaction.apply(router.new(), MESSAGE)
    assert (again.changed, again.confirm_s) == (False, 240.0)
    assert router.is_exactly(router.new())


def test_it_can_be_taken_back_at_once(router: Router, clock: Clock) -> None:
    transaction = changed(router, clock)
    assert transaction.undo("anna took it back") == Undone(1, 2, "anna took it back")
    assert router.is_exactly(router.old())
    assert transaction.undo("again") is None


@pytest.mark.parametrize("first", [False, True], ids=["a change", "first apply"])
def test_stop_takes_it_back_and_the_deadline_starts_nothing(router: Router, clock: Clock, *, first: bool) -> None:
    transaction = changed(router, clock, first=first)
    before, after = (None, 1) if first else (1, 2)
    assert transaction.stop("anna stopped it") == Undone(before, after, "anna stopped it")
    clock.pass_(301)
    assert transaction.attend_to(wait_s=0.0) is None
    assert (router.services.status(), router.loaded()) == ((), {})
    assert (transaction.waiting(), transaction.in_force(), router.leftovers()) == (None, before, [])
    assert transaction.history()[-1].undone == "anna stopped it"
    assert transaction.start() == (before, None)
    assert router.is_exactly([] if first else router.old())


def test_stop_after_a_change_that_died_leaves_nothing_to_whoever_stands_by(router: Router) -> None:
    router.transaction().apply(router.old(), MESSAGE)
    _dies_at("verify", lambda step: router.transaction(step).apply(router.new(), MESSAGE))
    assert router.transaction().stop("why") == Undone(1, 2, "the change died half-way")
    assert router.transaction().attend_to(wait_s=0.0) is None
    assert (router.services.status(), router.loaded()) == ((), {})
    router.transaction().start()
    assert router.is_exactly(router.old())


def test_who_stands_by_does_not_bring_back_what_was_taken_off_the_machine(router: Router, clock: Clock) -> None:
    transaction = changed(router, clock)
    shutil.rmtree(router.places.revisions)
    assert transaction.attend_to(wait_s=0.0) is None
    assert not router.places.revisions.exists()


def test_who_stands_by_is_there_before_the_switch(router: Router, clock: Clock) -> None:
    seen: list[str] = []

    def attend() -> None:
        deadline = router.transaction().store.deadline()
        seen.append("deadline" if deadline is not None else "")
        seen.append(str(router.transaction().in_force()))

    transaction = replace(router.transaction(), clock=clock, attend=attend)
    transaction.apply(router.new(), MESSAGE, confirm_within_s=300.0)
    assert seen == ["deadline", "None"]


def test_without_somebody_who_stands_by_nothing_is_changed(router: Router) -> None:
    def attend() -> None:
        raise Fault("standby", "nobody")

    router.transaction().apply(router.old(), MESSAGE)
    pids = [row.pid for row in router.services.status()]
    with pytest.raises(Failed, match="standby: nobody"):
        replace(router.transaction(), attend=attend).apply(router.new(), MESSAGE)
    assert router.is_exactly(router.old())
    assert [row.pid for row in router.services.status()] == pids, "no unit was even touched"


def test_what_does_not_come_back_brings_the_old_revision_back(router: Router) -> None:
    def look_again() -> None:
        assert router.linked()["bgp"] == "good new bgp"
        raise Unverified("the network", "hub hq1 did not come back")

    router.transaction().apply(router.old(), MESSAGE)
    with pytest.raises(Failed) as caught:
        replace(router.transaction(), verify=lambda: look_again).apply(router.new(), MESSAGE, confirm_within_s=300.0)
    assert caught.value.step == "verify"
    assert router.is_exactly(router.old())
    assert router.transaction().waiting() is None
    assert router.transaction().history()[-1].undone == "the network: hub hq1 did not come back"
