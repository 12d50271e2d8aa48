"""Whatever takes an apply down, and wherever, the router is entirely old or entirely new afterwards.

`make faults` tries every place; `make test` every few.
"""

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from small_router import MESSAGE, Router

import dying
from dmvpn.commit.outcome import Failed
from dmvpn.errors import Fault
from dmvpn.linux import namespaces
from dmvpn.render.result import Rendered

ALL = "DMVPN_FAULTS" in os.environ
EVERY = 1 if ALL else 4
PAGE = 4096


def some(calls: Sequence[dying.Call]) -> list[dying.Call]:
    """All of them, or a few that are spread over the whole; the last is always among them."""
    return [*calls[:-1:EVERY], calls[-1]]


def entirely(router: Router, choices: dict[str, list[Rendered]]) -> str:
    """Which of them the router is; empty if it is none."""
    return next((name for name, parts in choices.items() if router.is_exactly(parts)), "")


@pytest.mark.skipif(bool(dying.WHY_NOT), reason=dying.WHY_NOT)
@pytest.mark.parametrize("history", ["first apply", "a change"])
def test_it_dies_at_every_system_call_and_is_old_or_new(tmp_path: Path, history: str) -> None:
    with _router(tmp_path / "undisturbed", history) as router:
        calls = dying.traced(partial(router.transaction().apply, router.new(), MESSAGE))
        assert router.is_exactly(router.new())
    names = {call.name for call in calls}
    assert {"rename", "fsync", "sendto"} <= names
    assert {"clone", "vfork", "clone3"} & names, "processes are started"
    places = some(calls)
    seen = []
    what = f"killed at each system call of an apply ({history}), then a start: old or new"
    with dying.counted(what, len(places)) as count:
        for number, call in enumerate(places):
            with _router(tmp_path / str(number), history) as router:
                if not dying.killed_at(partial(router.transaction().apply, router.new(), MESSAGE), call):
                    count.missed(call.what)
                    continue
                router.transaction().start()
                choices = {"old": [] if history == "first apply" else router.old(), "new": router.new()}
                seen.append(entirely(router, choices))
            count.saw(call.what, "" if seen[-1] else "neither old nor new")
    assert count.unreached == []
    assert (seen[0], seen[-1]) == ("old", "new")


@contextmanager
def _router(root: Path, history: str) -> Iterator[Router]:
    router = Router(root)
    try:
        if history != "first apply":
            router.transaction().apply(router.old(), MESSAGE)
        yield router
    finally:
        router.services.shut_down()


# ---------------------------------------------------------------- a full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 pages, for revisions and the link; whoever needs one and may not mount is skipped."""
    disk = tmp_path / "disk"
    disk.mkdir()
    try:
        namespaces.mount("tmpfs", disk, "tmpfs", options=f"size={512 * PAGE}")
    except Fault as fault:
        pytest.skip(str(fault))
    yield disk
    subprocess.run(("umount", "-l", str(disk)), check=True)


def test_a_full_disk_leaves_it_old_or_new(tmp_path: Path, small_disk: Path) -> None:
    router = Router(tmp_path, disk=small_disk)
    router.transaction().apply(router.old(), MESSAGE)
    ballast = small_disk / "ballast"
    choices = {"old": router.old(), "new": router.new()}
    left = range(0, 24, 1 if ALL else 3)
    seen = []
    refusals = set()
    try:
        with dying.counted("an apply on a disk with 0, 1, 2 ... pages left: old or new", len(left)) as count:
            for pages in left:
                _fill(ballast, small_disk, pages)
                try:
                    router.transaction().apply(router.new(), MESSAGE)
                except Fault as fault:
                    refusals.add(str(fault))
                seen.append(entirely(router, choices))
                count.saw(f"with {pages} pages left", "" if seen[-1] else "neither old nor new")
                ballast.unlink()
                if seen[-1] != "old":
                    router.transaction().apply(router.old(), MESSAGE)
    finally:
        router.services.shut_down()
    assert seen[0] == "old"
    assert seen[-1] == "new"
    assert all("no space left on device; free some space" in words for words in refusals)


def test_a_full_disk_does_not_stop_the_way_back(tmp_path: Path, small_disk: Path) -> None:
    router = Router(tmp_path, disk=small_disk)
    try:
        router.transaction().apply(router.old(), MESSAGE)
        router.transaction().apply(router.new(), MESSAGE, confirm_within_s=300.0)
        _fill(small_disk / "ballast", small_disk, 0)
        assert router.transaction().undo("anna took it back") is not None
        assert router.is_exactly(router.old())
        assert router.transaction().waiting() is None
    finally:
        router.services.shut_down()


def _fill(ballast: Path, disk: Path, pages: int) -> None:
    facts = os.statvfs(disk)
    ballast.write_bytes(bytes(facts.f_bavail * facts.f_frsize - pages * PAGE))


# ---------------------------------------------------------------- a checker that hangs, two at once


def test_a_checker_that_hangs_has_its_limit(router: Router) -> None:
    router.transaction().apply(router.old(), MESSAGE)
    *others, ike = router.new()
    hanging = replace(ike, checks=(replace(ike.checks[0], argv=("sleep", "1000"), timeout_s=0.3),))
    with dying.counted("a checker that hangs: old", 1) as count:
        with pytest.raises(Failed, match=r"check ike: .*sleep 1000: did not end within 0\.3 s; revision 1 is in force"):
            router.transaction().apply([*others, hanging], MESSAGE)
        count.saw("the checker's limit", "" if router.is_exactly(router.old()) else "not old")


def test_of_two_applies_at_once_the_second_says_who_is_first(router: Router) -> None:
    """Two processes; the first is stopped, as by Ctrl-Z, where it is about to start the services."""
    router.transaction().apply(router.old(), MESSAGE)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            router.transaction(partial(_stop_at, writer)).apply(router.new(), MESSAGE)
        finally:
            os._exit(0)
    assert os.read(reader, 1)
    os.waitpid(pid, os.WUNTRACED)
    with dying.counted("two applies at once: the second is refused, the first ends", 1) as count:
        with pytest.raises(Fault, match=rf"another change .* is under way: apply by anna \(pid {pid}\); wait until it"):
            router.transaction().apply(router.old(), MESSAGE)
        os.kill(pid, signal.SIGCONT)
        os.waitpid(pid, 0)
        count.saw("the first", "" if router.is_exactly(router.new()) else "not new")


def _stop_at(writer: int, step: str) -> None:
    if step == "bring the services to it":
        os.write(writer, b"x")
        os.kill(os.getpid(), signal.SIGSTOP)
