"""What a change means, without a disk."""

from dataclasses import replace
from pathlib import PurePosixPath

import pytest

from dmvpn.commit.difference import Difference, FileChange, Kind, compare, show
from dmvpn.commit.revision import Message, Revision, digest_of, files_of, from_json, to_json, units_of
from dmvpn.errors import Fault
from dmvpn.render.result import Change, Check, File, Rendered, Unit

FILE = File(PurePosixPath("a.conf"), "one\ntwo\n")
UNIT = Unit("a", ("a", "-f", "a.conf"), "a", reads=(FILE.path,), on_change=Change.RELOAD)
PART = Rendered("a", (FILE,), (Check(("a", "-t", "{tree}/a.conf"), "a"),), (UNIT,))
CHANGED = replace(PART, files=(replace(FILE, text="one\nthree\n"),))


def unit(**fields: object) -> Rendered:
    return replace(PART, units=(replace(UNIT, **fields),))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param([PART], [PART], Difference(), id="nothing"),
        pytest.param(
            [],
            [PART],
            Difference((FileChange(FILE.path, Kind.ADDED),), (PART,), start=("a",), rewrites=True),
            id="first",
        ),
        pytest.param(
            [PART],
            [],
            Difference((FileChange(FILE.path, Kind.REMOVED),), stop=("a",), rewrites=True),
            id="last",
        ),
        pytest.param(
            [PART],
            [CHANGED],
            Difference((FileChange(FILE.path, Kind.CHANGED),), (CHANGED,), reload=("a",)),
            id="a file that the unit reloads",
        ),
        pytest.param(
            [unit(on_change=Change.NOTHING)],
            [replace(CHANGED, units=unit(on_change=Change.NOTHING).units)],
            Difference(
                (FileChange(FILE.path, Kind.CHANGED),), (replace(CHANGED, units=unit(on_change=Change.NOTHING).units),)
            ),
            id="a file that the unit looks at by itself",
        ),
        pytest.param(
            [PART],
            [unit(argv=("a", "-v"))],
            Difference(restart=("a",), rewrites=True),
            id="another command line restarts, though the file would only reload",
        ),
        pytest.param(
            [PART], [unit(start_timeout_s=1.0)], Difference(rewrites=True), id="a time limit restarts nothing"
        ),
    ],
)
def test_a_difference_is_files_checks_and_units(old: list[Rendered], new: list[Rendered], expected: Difference) -> None:
    assert compare(old, new) == expected
    assert compare(old, new).nothing is (old == new)


def test_units_that_go_stop_last_first() -> None:
    parts = [Rendered(name, (), (), (replace(UNIT, name=name, reads=()),)) for name in ("a", "b", "c")]
    assert compare(parts, parts[:1]).stop == ("c", "b")


@pytest.mark.parametrize(
    ("parts", "fault"),
    [
        pytest.param([PART, replace(PART, engine="b", units=())], "b: path a.conf is claimed twice", id="path"),
        pytest.param([PART, Rendered("b", (), (), (UNIT,))], "a: two units have this name", id="unit"),
        pytest.param(
            [Rendered("b", (File(PurePosixPath("../x"), ""),))], "b: path ../x is not inside the tree", id="above"
        ),
        pytest.param(
            [Rendered("b", (File(PurePosixPath("/etc/x"), ""),))],
            "b: path /etc/x is not inside the tree",
            id="absolute",
        ),
    ],
)
def test_parts_that_contradict_each_other_are_a_fault(parts: list[Rendered], fault: str) -> None:
    with pytest.raises(Fault) as caught:
        compare((), parts)
    assert str(caught.value) == fault


def test_show_is_a_unified_diff() -> None:
    assert show([PART], [CHANGED]) == ["--- a/a.conf", "+++ b/a.conf", "@@ -1,2 +1,2 @@", " one", "-two", "+three"]
    assert show([], [PART])[:2] == ["--- /dev/null", "+++ b/a.conf"]


@pytest.mark.parametrize(("before", "after"), [(0o600, 0o600), (0o600, 0o644), (0o644, 0o600)])
def test_show_says_of_a_secret_only_that_it_changed(before: int, after: int) -> None:
    old = replace(PART, files=(replace(FILE, mode=before),))
    new = replace(CHANGED, files=(replace(CHANGED.files[0], mode=after),))
    assert show([old], [new]) == ["a.conf: changed (secret, not shown)"]


def test_a_revision_comes_back_from_its_json() -> None:
    full = Rendered(
        "b",
        (File(PurePosixPath("dir/secret"), "ü\r\n", 0o600),),
        (),
        (
            replace(
                UNIT,
                name="b",
                daemon=False,
                environment=(("KEY", "a b"),),
                ready=PurePosixPath("/run/b"),
                binds=((PurePosixPath("/run/c"), PurePosixPath("/run")),),
                reload=("x",),
                stop=("y",),
            ),
        ),
    )
    parts = (PART, full)
    revision = Revision(7, Message("anna", "why\nnot", 1.5), digest_of(parts))
    texts = {path: file.text for path, file in files_of(parts).items()}
    stored = from_json(to_json(revision, parts), texts.get)
    assert (stored.revision, stored.parts, stored.written, stored.drifted) == (revision, parts, parts, ())
    assert units_of(stored.parts) == units_of(parts)
    texts[FILE.path] = "edited"
    del texts[PurePosixPath("dir/secret")]
    edited = from_json(to_json(revision, parts), texts.get)
    assert [str(path) for path in edited.drifted] == ["a.conf", "dir/secret"]
    assert edited.written == parts
    assert [file.text for part in edited.parts for file in part.files] == ["edited"]


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"version": 1}', '{"version": 2, "engines": 3}'])
def test_a_damaged_revision_is_a_fault(text: str) -> None:
    with pytest.raises(Fault, match=r"^revision: "):
        from_json(text, lambda _: None)
