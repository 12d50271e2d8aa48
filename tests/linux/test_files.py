"""Files are whole or not there; secrets are nobody else's at any moment."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dmvpn.errors import Fault
from dmvpn.linux import files


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


@pytest.fixture(params=[0o022, 0o077, 0o000], ids=["umask 022", "umask 077", "umask 000"])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_modes_are_as_asked_for_whatever_the_umask(tmp_path: Path) -> None:
    files.make_directory(tmp_path / "a" / "b")
    files.write(tmp_path / "a" / "b" / "public", "x")
    files.write_secret(tmp_path / "a" / "b" / "secret", b"x")
    files.create(tmp_path / "created", "x", mode=0o640)
    assert [mode(tmp_path / name) for name in ("a", "a/b", "a/b/public", "a/b/secret", "created")] == [
        0o755,
        0o755,
        0o644,
        0o600,
        0o640,
    ]


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("final", [0o600, 0o644])
def test_no_octet_is_written_while_others_could_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, final: int
) -> None:
    seen: list[int] = []
    real = os.fdopen

    def watched(descriptor: int, how: str) -> object:
        seen.append(os.fstat(descriptor).st_mode & 0o777)
        return real(descriptor, how)

    monkeypatch.setattr(os, "fdopen", watched)
    (tmp_path / "a").write_text("an earlier one that all can read")
    files.write(tmp_path / "a", "x", mode=final)
    assert seen == [0o600]
    assert mode(tmp_path / "a") == final


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "a"
    files.write(path, "old")

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((os, "fsync") if call == "fsync" else (Path, "rename")), refuse)
    with pytest.raises(Fault, match="a: no space left on device; free some space"):
        files.write(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_a_link_in_the_way_is_replaced_and_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (tmp_path / "a").symlink_to(victim)
    files.write_secret(tmp_path / "a", "secret")
    assert victim.read_text() == "untouched"
    assert not (tmp_path / "a").is_symlink()
    with pytest.raises(Fault, match="file exists"):
        files.create(tmp_path / "victim", "x")


def test_a_symlink_changes_in_one_step(tmp_path: Path) -> None:
    link = tmp_path / "current"
    for target in ("one", "two"):
        files.replace_symlink(link, tmp_path / target)
        assert link.readlink() == tmp_path / target
    assert [entry.name for entry in tmp_path.iterdir()] == ["current"]


def test_a_directory_in_the_place_of_the_link_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "current").mkdir()
    with pytest.raises(Fault, match="current: is a directory"):
        files.replace_symlink(tmp_path / "current", tmp_path / "one")
    assert [entry.name for entry in tmp_path.iterdir()] == ["current"]


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        pytest.param(lambda path: None, "no such file or directory", id="missing"),
        pytest.param(lambda path: path.mkdir(), "is a directory", id="directory"),
        pytest.param(os.mkfifo, "is not a regular file", id="FIFO without a writer"),
        pytest.param(lambda path: path.write_bytes(b"x" * 11), "is larger than 10 octets", id="too large"),
        pytest.param(lambda path: path.write_bytes(b"ab\xff"), "octet 2 is not UTF-8", id="not text"),
    ],
)
def test_what_cannot_be_read_is_a_fault(tmp_path: Path, make: Callable[[Path], object], fault: str) -> None:
    path = tmp_path / "a"
    make(path)
    with pytest.raises(Fault) as caught:
        files.read_text(path, limit_octets=10)
    assert str(caught.value) == f"{path}: {fault}"


def test_a_file_of_exactly_the_limit_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 10)
    assert files.read(tmp_path / "a", limit_octets=10) == b"x" * 10


@pytest.mark.parametrize(
    ("rights", "fault"),
    [
        pytest.param(0o600, None, id="owner"),
        pytest.param(0o400, None, id="owner reads"),
        pytest.param(0o640, "others can use it (mode 0640); chmod 600 PATH", id="group"),
        pytest.param(0o604, "others can use it (mode 0604); chmod 600 PATH", id="everybody"),
    ],
)
def test_a_secret_that_others_can_use_is_refused(tmp_path: Path, rights: int, fault: str | None) -> None:
    path = tmp_path / "key"
    path.write_text("x")
    path.chmod(rights)
    if fault is None:
        files.check_private(path)
        return
    with pytest.raises(Fault) as caught:
        files.check_private(path)
    assert str(caught.value) == f"{path}: {fault.replace('PATH', str(path))}"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: chown")
def test_a_secret_of_somebody_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    files.write_secret(path, "x")
    os.chown(path, 65534, -1)
    with pytest.raises(Fault, match="belongs to uid 65534"):
        files.check_private(path)


def test_removing_what_is_not_there_is_no_fault(tmp_path: Path) -> None:
    files.remove(tmp_path / "a")
    files.remove_tree(tmp_path / "b")
    files.make_directory(tmp_path / "b" / "c")
    files.remove_tree(tmp_path / "b")
    assert list(tmp_path.iterdir()) == []
