"""What a virtual machine needs, what is said when it is missing, and the one try of KVM."""

import json
import os
import time
from pathlib import Path

import pytest

from dmvpn.errors import Fault
from dmvpn.lab import vm_image, vm_kvm
from dmvpn.lab.vm_image import Image

RELEASE = "6.1.0-99-amd64"


@pytest.fixture
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What scripts/setup would have unpacked, on a machine that has the programs."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in (vm_image.QEMU, "busybox", "vng", "python"):
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    directory = tmp_path / ".vm"
    (directory / "boot").mkdir(parents=True)
    (directory / "boot" / f"vmlinuz-{RELEASE}").touch()
    (directory / "lib" / "modules" / RELEASE).mkdir(parents=True)
    (directory / "lib" / "modules" / RELEASE / "modules.dep").touch()
    monkeypatch.setattr(vm_image, "PRIVATE", directory)
    monkeypatch.setattr("sys.executable", str(programs / "python"))
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    return directory


def test_a_whole_one_is_found(private: Path) -> None:
    assert vm_image.why_not() == ""
    assert vm_image.find().release == RELEASE


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        pytest.param(f".vm/boot/vmlinuz-{RELEASE}", "no kernel is unpacked in", id="no kernel"),
        pytest.param(f".vm/lib/modules/{RELEASE}/modules.dep", "is not whole", id="half unpacked"),
        pytest.param("bin/vng", "needs the Python package virtme-ng", id="no virtme-ng"),
        pytest.param("bin/busybox", "install the Debian package busybox-static", id="no busybox"),
        pytest.param(f"bin/{vm_image.QEMU}", "install the Debian package qemu-system-x86", id="no qemu"),
    ],
)
def test_what_is_missing_is_named(private: Path, missing: str, says: str) -> None:
    (private.parent / missing).unlink()
    assert says in vm_image.why_not()
    with pytest.raises(Fault, match="scripts/setup vm"):
        vm_image.find()


def test_another_processor_is_named(private: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert vm_image.why_not() == "virtual machine: needs an x86-64 machine, this is aarch64"


def test_who_is_not_root_is_told(private: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert "needs root" in vm_image.why_not()


# ---------------------------------------------------------------- KVM

PRETENDED = """#!/bin/sh
echo tried >> {directory}/tried
{does}
"""


@pytest.fixture
def image(private: Path, monkeypatch: pytest.MonkeyPatch) -> Image:
    """With an emulator that does what the test writes into it, and a /dev/kvm that can be opened."""
    monkeypatch.setattr(vm_kvm, "DEVICE", Path(os.devnull))
    monkeypatch.setattr(vm_kvm, "PROBE_LIMIT_S", 0.5)
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:/usr/bin:/bin")
    return vm_image.find()


@pytest.mark.parametrize(
    ("does", "why"),
    [
        pytest.param("echo '[    0.000000] Linux version 6.1'; exec sleep 100", "", id="it boots"),
        pytest.param("exec sleep 100", "/dev/null boots no kernel within 0.5 s", id="it hangs without a word"),
        pytest.param(
            "echo 'Could not access KVM kernel module: Permission denied' >&2; exit 1",
            "/dev/null boots no kernel within 0.5 s: Could not access KVM kernel module: Permission denied",
            id="it is refused",
        ),
    ],
)
def test_kvm_is_tried_once_and_the_verdict_remembered(image: Image, private: Path, does: str, why: str) -> None:
    Path(image.qemu).write_text(PRETENDED.format(directory=private, does=does))
    began = time.monotonic()
    assert vm_kvm.verdict(image, private).why == why
    assert time.monotonic() - began < 30, "a sleep of 100 s does not hold it"
    assert vm_kvm.verdict(image, private).why == why
    assert (private / "tried").read_text() == "tried\n"


@pytest.mark.parametrize("spoilt", ["", "{", "[]", '{"about": []}', '{"about": ["another kernel"], "why": ""}'])
def test_a_verdict_about_another_machine_does_not_count(image: Image, private: Path, spoilt: str) -> None:
    Path(image.qemu).write_text(PRETENDED.format(directory=private, does="echo Linux version 6.1"))
    (private / "kvm.json").write_text(spoilt)
    assert vm_kvm.verdict(image, private).usable
    assert (private / "tried").read_text() == "tried\n"
    assert json.loads((private / "kvm.json").read_text())["why"] == ""


def test_without_a_device_nothing_is_tried(image: Image, private: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vm_kvm, "DEVICE", private / "kvm")
    assert vm_kvm.verdict(image, private).why == f"no {private / 'kvm'}"
    assert not (private / "tried").exists()
