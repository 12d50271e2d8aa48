"""Fail or die at every step: afterwards the router is entirely old or entirely new."""

import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import pytest
from small_router import MESSAGE, Router

from dmvpn.commit.checking import run_check
from dmvpn.commit.guard import own_etc
from dmvpn.commit.outcome import Edited, Edits, Failed
from dmvpn.commit.revision import Message
from dmvpn.errors import Fault
from dmvpn.linux.services import Applied
from dmvpn.render.result import Check, Rendered

DIED = 77
MOST_STEPS = 100


@dataclass
class Steps:
    """Watches the steps; at number `fatal` it fails, or dies as by kill -9."""

    fatal: int = -1
    dies: bool = False
    seen: list[str] = field(default_factory=list)

    def __call__(self, name: str) -> None:
        self.seen.append(name)
        if len(self.seen) - 1 == self.fatal:
            if self.dies:
                os._exit(DIED)
            raise Fault("test", f"fails at {name}")


def steps_of(router: Router, before: Sequence[Rendered], after: Sequence[Rendered]) -> list[str]:
    """The steps of an undisturbed apply."""
    steps = Steps()
    if before:
        router.transaction().apply(before, MESSAGE)
    router.transaction(steps).apply(after, MESSAGE)
    return steps.seen


def apply_in_a_process_that_dies(router: Router, parts: Sequence[Rendered], fatal: int) -> None:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            router.transaction(Steps(fatal, dies=True)).apply(parts, MESSAGE)
        except (Fault, OSError):
            traceback.print_exc(file=sys.stderr)
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == DIED


def before_of(router: Router, history: str) -> list[Rendered]:
    return [] if history == "first apply" else router.old()


HISTORIES = ["first apply", "a change"]


@pytest.mark.parametrize("history", HISTORIES)
def test_an_undisturbed_apply_is_entirely_new(router: Router, history: str) -> None:
    steps = steps_of(router, before_of(router, history), router.new())
    assert router.is_exactly(router.new())
    assert len(steps) == len(set(steps)) < MOST_STEPS
    assert steps[-1] == "close the journal"


@pytest.mark.parametrize("history", HISTORIES)
def test_whatever_fails_the_router_is_entirely_old(router: Router, tmp_path: Path, history: str) -> None:
    before = before_of(router, history)
    twin = Router(tmp_path / "twin")
    steps = steps_of(twin, before_of(twin, history), twin.new())
    twin.services.shut_down()
    if before:
        router.transaction().apply(before, MESSAGE)
    for number, name in enumerate(steps):
        with pytest.raises(Failed) as caught:
            router.transaction(Steps(number)).apply(router.new(), MESSAGE)
        assert router.is_exactly(before), name
        assert caught.value.in_force == (1 if before else None)
        assert f"fails at {name}" in str(caught.value)
    # And nothing of all that stands in the way of the next.
    assert router.transaction().apply(router.new(), MESSAGE).previous == (1 if before else None)
    assert router.is_exactly(router.new())


@pytest.mark.parametrize("with_", ["apply alone", "the whole router"])
@pytest.mark.parametrize("history", HISTORIES)
def test_whenever_it_dies_the_router_is_entirely_old_or_new(
    router: Router, tmp_path: Path, history: str, with_: str
) -> None:
    before = before_of(router, history)
    twin = Router(tmp_path / "twin")
    steps = steps_of(twin, before_of(twin, history), twin.new())
    twin.services.shut_down()
    if before:
        router.transaction().apply(before, MESSAGE)
    for number, name in enumerate(steps):
        apply_in_a_process_that_dies(router, router.new(), number)
        if with_ == "the whole router":
            router.kill_supervisor()
            for loaded in router.loaded_in.iterdir():
                loaded.unlink()
        router.transaction().start()
        # The journal is closed by one unlink, before which the last step is: so it is always old here.
        assert router.is_exactly(before), name
    router.transaction().apply(router.new(), MESSAGE)
    assert router.is_exactly(router.new())


def test_dying_while_it_goes_back_only_needs_another_start(router: Router) -> None:
    router.transaction().apply(router.old(), MESSAGE)
    broken = [*router.new()[:-1], router.engine("ike", "good new ike", broken="echo cannot; exit 3")]
    steps = Steps()
    with pytest.raises(Failed, match=r"switch: ike: ended with status 3 while it started: cannot; see .* is in force"):
        router.transaction(steps).apply(broken, MESSAGE)
    first = steps.seen.index("bring the services to it") + 1
    assert len(steps.seen) - first >= 4
    for number in range(first, len(steps.seen)):
        apply_in_a_process_that_dies(router, broken, number)
        router.transaction().start()
        assert router.is_exactly(router.old()), steps.seen[number]


@pytest.mark.parametrize("history", HISTORIES)
@pytest.mark.parametrize("position", range(4))
@pytest.mark.parametrize("broken", ["exit 1", "sleep 0.01; kill -9 $$"])
def test_a_unit_that_does_not_start_brings_the_old_revision_back(
    router: Router, history: str, position: int, broken: str
) -> None:
    before = before_of(router, history)
    if before:
        router.transaction().apply(before, MESSAGE)
    parts = router.new()
    kind = ("one-shot", "reloads", "daemon", "daemon")[position]
    name = parts[position].engine
    parts[position] = router.engine(name, f"good new {name}", kind, broken=broken)
    with pytest.raises(Failed, match=f"switch: {name}: "):
        router.transaction().apply(parts, MESSAGE)
    assert router.is_exactly(before)


def test_going_back_leaves_alone_what_the_new_revision_had_not_reached(router: Router) -> None:
    router.transaction().apply(router.old(), MESSAGE)
    pids = {row.name: row.pid for row in router.services.status()}
    parts = router.new()
    parts[2] = router.engine("added", "good new added", broken="exit 1")
    with pytest.raises(Failed):
        router.transaction().apply(parts, MESSAGE)
    assert {row.name: row.pid for row in router.services.status()}["ike"] == pids["ike"]


def test_a_checker_that_refuses_changes_nothing(router: Router) -> None:
    router.transaction().apply(router.old(), MESSAGE)
    rows = router.services.status()
    parts = [*router.new()[:-1], router.engine("ike", "bad new ike")]
    with pytest.raises(Failed) as caught:
        router.transaction().apply(parts, MESSAGE)
    assert caught.value.step == "check ike"
    assert str(caught.value).endswith("ended with status 1; revision 1 is in force")
    assert router.services.status() == rows
    assert router.is_exactly(router.old())


def test_a_checker_of_ours_is_quoted_without_its_command(tmp_path: Path) -> None:
    check = Check(("python3", "-m", "dmvpn.linux.frr_release", "check", "isis"), package="opendmvpn")
    with pytest.raises(Fault) as caught:
        run_check(check, tmp_path)
    assert str(caught.value) == "frr_release: isis: nothing that is asked of FRR; write ospf6, rip or ripng"
    with pytest.raises(Fault, match=r"no_such_module"):
        run_check(replace(check, argv=("python3", "-m", "dmvpn.no_such_module")), tmp_path)


def test_only_engines_with_changed_files_are_checked(router: Router) -> None:
    checked = []
    transaction = replace(router.transaction(), check=lambda check, tree: checked.append(check.argv[-1]))
    transaction.apply(router.old(), MESSAGE)
    assert checked == ["{tree}/net", "{tree}/gone", "{tree}/bgp", "{tree}/ike"]
    checked.clear()
    transaction.apply([*router.old()[:-1], router.engine("ike", "another")], MESSAGE)
    assert checked == ["{tree}/ike"]


def test_nothing_changed_makes_no_revision_and_touches_no_unit(router: Router) -> None:
    first = router.transaction().apply(router.old(), MESSAGE)
    assert (first.revision, first.previous, first.changed) == (1, None, True)
    rows = router.services.status()
    again = router.transaction().apply(router.old(), MESSAGE)
    assert (again.revision, again.previous, again.changed, again.files) == (1, 1, False, ())
    assert router.services.status() == rows


def test_nothing_changed_still_starts_what_is_down(router: Router) -> None:
    router.transaction().apply(router.old(), MESSAGE)
    router.kill_supervisor()
    assert router.services.status() == ()
    assert router.transaction().apply(router.old(), MESSAGE).units.started == ("net", "gone", "bgp", "ike")
    assert router.is_exactly(router.old())


def test_each_unit_gets_what_its_change_needs_in_order(router: Router) -> None:
    router.transaction().apply(router.old(), MESSAGE)
    before = {row.name: row.pid for row in router.services.status()}
    units = router.transaction().apply(router.new(), MESSAGE).units
    assert units == Applied(stopped=("gone",), started=("added",), restarted=("net", "ike"), reloaded=("bgp",))
    after = {row.name: row.pid for row in router.services.status()}
    assert after["bgp"] == before["bgp"]
    assert after["ike"] != before["ike"]


def test_rollback_brings_an_earlier_content_back_as_a_new_revision(router: Router) -> None:
    router.transaction().apply(router.old(), MESSAGE)
    router.transaction().apply(router.new(), MESSAGE)
    back = Message("anna", "rollback to 1", 1_700_000_100.0)
    assert router.transaction().rollback(1, back).revision == 3
    assert router.is_exactly(router.old())
    history = router.transaction().history()
    assert [(line.number, line.message.why) for line in history] == [(1, "a test"), (2, "a test"), (3, "rollback to 1")]
    assert history[0].digest == history[2].digest != history[1].digest
    with pytest.raises(Fault, match=r"revision 9: does not exist; there are: 1, 2, 3"):
        router.transaction().rollback(9, back)


def test_a_file_edited_by_hand_is_shown_and_never_silently_overwritten(router: Router) -> None:
    router.transaction().apply(router.old(), MESSAGE)
    (router.places.current / "ike").write_text("good edited")
    preview = router.transaction().preview(router.old())
    assert [str(path) for path in preview.drifted] == ["ike"]
    assert "-good edited" in preview.lines
    assert {"-good old ike", "+good edited"} <= set(preview.edits)
    for parts in (router.old(), router.new()):
        with pytest.raises(
            Edited, match=r"ike: edited by hand since it was applied; see `dmvpn diff`; .*--discard-edits"
        ):
            router.transaction().apply(parts, MESSAGE)
    assert (router.places.current / "ike").read_text() == "good edited"
    assert router.transaction().drift() == (PurePosixPath("ike"),)


@pytest.mark.parametrize("left", ["edited", "gone", "no text"])
def test_edits_are_taken_back_when_told_to_and_kept_beside(router: Router, left: str) -> None:
    router.transaction().apply(router.old(), MESSAGE)
    edited = router.places.current / "ike"
    octets = {"edited": b"good edited", "gone": None, "no text": b"\xff\xfe"}[left]
    edited.unlink() if octets is None else edited.write_bytes(octets)
    outcome = router.transaction().apply(router.old(), MESSAGE, edits=Edits.DISCARD)
    assert (outcome.revision, [str(path) for path in outcome.drifted]) == (2, ["ike"])
    assert outcome.units.restarted == ("ike",)
    assert router.is_exactly(router.old())
    assert outcome.kept is not None
    kept = outcome.kept / "ike"
    assert (kept.read_bytes() if kept.exists() else None) == octets
    # What was written is known, whatever became of the file.
    router.transaction().apply(router.new(), MESSAGE)
    assert router.transaction().rollback(1, MESSAGE).revision == 4
    assert router.is_exactly(router.old())


def test_two_changes_at_once_are_one_change_and_a_refusal(router: Router) -> None:
    seen = []

    def step(name: str) -> None:
        if name == "close the journal":
            holder = f"apply by anna \\(pid {os.getpid()}\\); wait"
            with pytest.raises(Fault, match=f"apply: another change of this network is under way: {holder}") as caught:
                router.transaction().apply(router.new(), MESSAGE)
            seen.append(caught.value)

    router.transaction(step).apply(router.old(), MESSAGE)
    assert seen
    assert router.is_exactly(router.old())


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_leaves_nothing_half_done(router: Router, times: int) -> None:
    router.transaction().apply(router.old(), MESSAGE)
    pressed: list[str] = []

    def step(name: str) -> None:
        if name == "close the journal" and len(pressed) < times:
            pressed.append(name)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        router.transaction(step).apply(router.new(), MESSAGE)
    if times > 1:  # the second one interrupts the going back, which the next command then does
        assert router.transaction().start()[0] == 1
    assert router.is_exactly(router.old())


def test_stop_and_start_keep_the_revision(router: Router) -> None:
    router.transaction().apply(router.old(), MESSAGE)
    assert router.transaction().stop("why") is None
    assert router.services.status() == ()
    assert router.loaded() == {}
    assert router.transaction().start() == (1, None)
    assert router.is_exactly(router.old())


@pytest.mark.parametrize("verb", ["apply", "start", "stop", "recover", "rollback", "confirm", "undo", "attend to"])
def test_the_guard_is_asked_first(router: Router, verb: str) -> None:
    def guard() -> None:
        raise Fault("apply", "not here")

    transaction = replace(router.transaction(), guard=guard)
    verbs = {
        "apply": lambda: transaction.apply(router.old(), MESSAGE),
        "start": transaction.start,
        "stop": lambda: transaction.stop("why"),
        "recover": transaction.recover,
        "confirm": lambda: transaction.confirm("anna"),
        "undo": lambda: transaction.undo("why"),
        "attend to": lambda: transaction.attend_to(wait_s=0.0),
        "rollback": lambda: transaction.apply(router.old(), MESSAGE),
    }
    with pytest.raises(Fault, match="apply: not here"):
        verbs[verb]()
    assert not router.places.revisions.exists()


@pytest.mark.parametrize(
    ("lab", "marker", "fault"),
    [
        pytest.param("", None, None, id="no lab"),
        pytest.param("", "demo\n", None, id="a shell in a lab's router"),
        pytest.param("demo", "demo\n", None, id="a lab's router"),
        pytest.param("demo", None, "apply: lab demo runs here, but DIR is the host's; ", id="the host's /etc"),
        pytest.param("demo", "other\n", "apply: DIR belongs to lab other, not demo", id="another lab's /etc"),
    ],
)
def test_a_lab_may_change_only_its_own_etc(tmp_path: Path, lab: str, marker: str | None, fault: str | None) -> None:
    if marker is not None:
        (tmp_path / ".lab").write_text(marker)
    guard = own_etc(lab, tmp_path / ".lab")
    if fault is None:
        guard()
        return
    with pytest.raises(Fault) as caught:
        guard()
    assert str(caught.value).startswith(fault.replace("DIR", str(tmp_path)))
