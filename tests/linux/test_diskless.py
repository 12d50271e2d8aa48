"""Alpine in RAM, as far as a stand-in goes: not run on Alpine."""

from pathlib import Path

import pytest

from dmvpn.linux.diskless import INCLUDED, Machine

STATE = Path("/var/lib/dmvpn")
LBU = """#!/bin/sh
echo "$@" >>{said}
test "$1" != commit || exit {status}
"""


def machine(root: Path, *, alpine: bool = True, mounts: str = "tmpfs / tmpfs rw 0 0\n") -> Machine:
    (root / "etc").mkdir(parents=True)
    if alpine:
        (root / "etc/alpine-release").write_text("3.20.1\n")
    (root / "mounts").write_text(mounts)
    return Machine(root, root / "mounts")


@pytest.mark.parametrize(
    ("alpine", "mounts", "diskless"),
    [
        pytest.param(True, "tmpfs / tmpfs rw 0 0\n", True, id="Alpine in RAM"),
        pytest.param(True, "rootfs / rootfs rw 0 0\ntmpfs / tmpfs rw 0 0\n", True, id="as its initramfs leaves it"),
        pytest.param(True, "/dev/sda3 / ext4 rw 0 0\ntmpfs /run tmpfs rw 0 0\n", False, id="Alpine on a disk"),
        pytest.param(False, "overlay / overlay rw 0 0\n", False, id="a container"),
        pytest.param(False, "tmpfs / tmpfs rw 0 0\n", False, id="something else in RAM"),
        pytest.param(True, "", False, id="no mounts to be seen"),
    ],
)
def test_which_machine_is_diskless(tmp_path: Path, mounts: str, *, alpine: bool, diskless: bool) -> None:
    assert machine(tmp_path, alpine=alpine, mounts=mounts).is_diskless() is diskless


def test_our_state_is_put_on_lbus_list_once(tmp_path: Path) -> None:
    there = machine(tmp_path)
    assert there.commands((STATE,)) == (("lbu", "include", "/var/lib/dmvpn"), ("lbu", "commit"))
    (tmp_path / INCLUDED).parent.mkdir(parents=True)
    (tmp_path / INCLUDED).write_text("+root/.ssh\n+var/lib/dmvpn\n")
    assert there.commands((STATE,)) == (("lbu", "commit"),)


@pytest.mark.parametrize(
    ("status", "trouble"),
    [pytest.param(0, "", id="good"), pytest.param(1, "lbu commit: ended with status 1", id="bad")],
)
def test_lbu_is_run_and_its_refusal_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, trouble: str
) -> None:
    said = tmp_path / "said"
    program = tmp_path / "bin" / "lbu"
    program.parent.mkdir()
    program.write_text(LBU.format(said=said, status=status))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    assert trouble in machine(tmp_path / "root").keep((STATE,))
    assert said.read_text() == "include /var/lib/dmvpn\ncommit\n"


def test_without_lbu_that_is_what_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine(tmp_path / "root").keep((STATE,)).startswith("lbu: no such program on this machine")
