"""Programs run with a limit, and say in one line what was wrong."""

import sys
import time
from pathlib import Path

import pytest

from dmvpn.linux import process
from dmvpn.linux.process import ProcessFault


def test_a_program_gets_its_input_and_environment_and_gives_its_output() -> None:
    script = 'read line; echo "$line $WORD"; echo aside >&2'
    result = process.run(("sh", "-c", script), timeout_s=10, input=b"said\n", env={"WORD": "with"})
    assert (result.status, result.text, result.stderr) == (0, "said with\n", b"aside\n")


@pytest.mark.parametrize("octets", [0, 1, 65536, 1_000_000])
def test_input_and_output_of_any_size_do_not_wait_for_each_other(octets: int) -> None:
    assert process.run(("cat",), timeout_s=20, input=b"x" * octets).stdout == b"x" * octets


def test_without_input_a_program_reads_nothing() -> None:
    assert process.run(("cat",), timeout_s=10).stdout == b""


@pytest.mark.parametrize(
    ("argv", "status", "fault"),
    [
        pytest.param(
            ("sh", "-c", "echo line 7 >&2; exit 3"),
            3,
            "sh: sh -c echo line 7 >&2; exit 3: ended with status 3: line 7",
            id="status",
        ),
        pytest.param(("sh", "-c", "kill -9 $$"), -9, "sh: sh -c kill -9 $$: was ended by signal 9", id="signal"),
        pytest.param(
            ("sh", "-c", "echo told; false"), 1, "sh: sh -c echo told; false: ended with status 1: told", id="on stdout"
        ),
        pytest.param(("nosuch",), None, "nosuch: no such program on this machine", id="missing, package unknown"),
        pytest.param(
            ("/nowhere/nft",),
            None,
            "nft: no such program on this machine; install the Debian package nftables",
            id="missing, package known",
        ),
    ],
)
def test_a_fault_carries_argv_status_and_words(argv: tuple[str, ...], status: int | None, fault: str) -> None:
    with pytest.raises(ProcessFault) as caught:
        process.run(argv, timeout_s=10)
    assert (str(caught.value), caught.value.status) == (fault, status)
    assert caught.value.argv == argv


def test_the_callers_package_is_named() -> None:
    with pytest.raises(ProcessFault, match="install the Debian package nosuch-tools"):
        process.run(("nosuch",), timeout_s=1, package="nosuch-tools")


def test_a_status_that_is_expected_is_no_fault() -> None:
    assert process.run(("false",), timeout_s=10, accept=(0, 1)).status == 1


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("sleep 1003", id="itself"),
        pytest.param("sleep 1003 & exit 0", id="a child that keeps the pipe open"),
        pytest.param("exec >&- 2>&-; sleep 1003", id="with its output closed"),
    ],
)
def test_a_program_that_hangs_ends_with_all_its_children(script: str, tmp_path: Path) -> None:
    pids = tmp_path / "group"
    with pytest.raises(ProcessFault, match=r"did not end within 0\.2 s"):
        process.run(("sh", "-c", f"echo $$ > {pids}; {script}"), timeout_s=0.2)
    group = pids.read_text().strip()
    deadline = time.monotonic() + 10
    while [stat for stat in _stats() if stat[4] == group and stat[2] not in "ZX"]:
        assert time.monotonic() < deadline


def _stats() -> list[list[str]]:
    """Fields of /proc/PID/stat: 0 the PID, 2 the state, 4 the process group. proc(5)."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, tail = path.read_text().rpartition(")")
        except OSError:
            continue
        pid, _, name = head.partition(" ")
        found.append([pid, name, *tail.split()])
    return found


def test_endless_output_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "OUTPUT_LIMIT_OCTETS", 100_000)
    with pytest.raises(ProcessFault, match="yes: yes: said more than 100000 octets"):
        process.run(("yes",), timeout_s=20)


def test_what_a_fault_shows_is_bounded() -> None:
    with pytest.raises(ProcessFault) as caught:
        process.run(("sh", "-c", "seq 100000 >&2; exit 1"), timeout_s=20)
    assert len(caught.value.stderr) < 700
    assert caught.value.stderr.endswith("99999 | 100000")


def test_our_own_programs_stand_beside_the_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interpreter = tmp_path / "python3"
    script = tmp_path / "dmvpnd"
    script.write_text("")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    monkeypatch.setenv("PATH", "/nowhere")
    assert process.find("dmvpnd") == str(script)
    assert process.find("python3") == str(interpreter)
    assert process.find("sh") in ("/usr/bin/sh", "/bin/sh")


def test_a_file_that_cannot_be_executed_is_a_fault(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_bytes(b"\x7fELF and nothing more")
    wrong.chmod(0o755)
    before = list(Path("/proc/self/fd").iterdir())
    with pytest.raises(ProcessFault, match="wrong: cannot be started: Exec format error"):
        process.run((str(wrong),), timeout_s=1, input=b"x")
    assert len(list(Path("/proc/self/fd").iterdir())) == len(before)
