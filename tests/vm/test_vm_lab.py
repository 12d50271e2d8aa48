"""A lab in a virtual machine, as an operator uses it: the same commands, and nothing stays on this machine."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dmvpn.lab import state, vm_image
from two_routers import NETWORK

DMVPN = str(Path(sys.executable).with_name("dmvpn"))
NAME = f"vm-lab-{os.getpid()}"
LIMIT_S = 900.0  # emulated, beside other work

pytestmark = [
    pytest.mark.lab,
    pytest.mark.wide,
    pytest.mark.timeout(LIMIT_S),
    pytest.mark.skipif(bool(vm_image.why_not()), reason=vm_image.why_not()),
]


def lab(*words: str, input: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """`dmvpn lab WORDS` on the host, about the lab of this module."""
    argv = (DMVPN, "lab", words[0], "--name", NAME, *words[1:])
    stdin = {"stdin": subprocess.DEVNULL} if input is None else {"input": input}
    return subprocess.run(argv, capture_output=True, check=False, timeout=LIMIT_S, **stdin)


def machines() -> list[int]:
    """The emulators of this module that run on this machine."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        if words.partition(b"\0")[0].endswith(vm_image.QEMU.encode()) and NAME.encode() in words:
            found.append(int(path.parent.name))
    return found


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What `lab up --vm` prints."""
    path = tmp_path_factory.mktemp("pair") / "network.yaml"
    path.write_text(NETWORK)
    done = lab("up", str(path), "--vm")
    assert done.returncode == 0, done.stderr.decode()
    assert len(machines()) == 1
    yield done.stdout.decode()
    assert lab("down").returncode == 0
    assert machines() == []
    assert not (state.STATE_DIRECTORY / NAME).exists()


def test_up_says_what_it_starts_and_what_comes_next(up: str) -> None:
    assert "a virtual machine starts with kernel" in up
    assert f"lab {NAME} is up: " in up


def test_status_says_that_it_is_in_a_machine(up: str) -> None:
    assert f"lab {NAME} is in a virtual machine, kernel " in lab("status").stdout.decode()
    found = json.loads(lab("status", "--json").stdout)
    assert found["nodes"]["par1"] == "router"
    assert found["emulator"] == "netem", "which this machine's own kernel may not have"
    assert found["machine"]["kvm"] is (found["machine"]["why_emulated"] == "")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(("hq1", "sh", "-c", "hostname; exit 5"), (5, b"hq1\n"), id="the exit status"),
        pytest.param(("hq1", "cat"), (0, b"typed\n"), id="the input"),
        pytest.param(("par1", "uname", "-s"), (0, b"Linux\n"), id="no shell"),
    ],
)
def test_exec_is_as_ever(up: str, words: tuple[str, ...], expected: tuple[int, bytes]) -> None:
    done = lab("exec", *words, input=b"typed\n")
    assert (done.returncode, done.stdout) == expected


def test_what_is_wrong_is_said_as_ever(up: str) -> None:
    done = lab("exec", "nobody", "true")
    assert (done.returncode, done.stdout) == (2, b"")
    assert f"lab {NAME}: has no node nobody" in done.stderr.decode()


def test_links_are_impaired_and_healed_inside(up: str) -> None:
    assert b"loss 5%" in lab("impair", "par1.isp1", "loss=5%").stdout
    assert lab("cut", "hq1", "par1").returncode == 0
    assert json.loads(lab("status", "--json").stdout)["cuts"] == [["hq1", "par1"]]
    assert lab("heal").returncode == 0
    assert json.loads(lab("status", "--json").stdout)["cuts"] == []


def test_two_commands_at_once(up: str) -> None:
    words = (DMVPN, "lab", "exec", "--name", NAME, "par1", "sh", "-c", "echo here; cat")
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as waiting:
        assert waiting.stdin is not None
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == b"here\n"
        assert lab("exec", "hq1", "true").returncode == 0
        assert waiting.poll() is None
        waiting.stdin.close()
        assert waiting.wait(LIMIT_S) == 0


def test_a_capture_is_written_here_and_ends_with_ctrl_c(up: str, tmp_path: Path) -> None:
    path = tmp_path / "wan.pcap"
    words = (DMVPN, "lab", "capture", "--name", NAME, "hq1", "eth0", str(path))
    with subprocess.Popen(words, stderr=subprocess.PIPE) as capture:
        deadline = time.monotonic() + LIMIT_S
        while path.stat().st_size < 24 if path.exists() else True:
            assert time.monotonic() < deadline
            assert capture.poll() is None
            time.sleep(0.1)
        assert lab("exec", "par1", "ping", "-c", "2", "-W", "20", "192.0.2.2").returncode == 0
        capture.send_signal(signal.SIGINT)
        assert capture.wait(LIMIT_S) == 0
    octets = path.read_bytes()
    assert octets[:4] in (b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\xc3\xd4")
    assert bytes((198, 51, 100, 2, 192, 0, 2, 2)) in octets


@pytest.mark.timeout(120)
def test_killed_while_it_starts_it_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "network.yaml"
    path.write_text(NETWORK)
    before, mounts = set(machines()), Path("/proc/mounts").read_text()
    words = (DMVPN, "lab", "up", "--name", f"{NAME}-dies", str(path), "--vm")
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as starting:
        deadline = time.monotonic() + 60
        while not (mine := set(machines()) - before):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        starting.kill()
    while mine & set(machines()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert Path("/proc/mounts").read_text() == mounts
    state.sweep()
    assert not (state.STATE_DIRECTORY / f"{NAME}-dies").exists()
