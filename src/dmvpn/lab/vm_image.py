"""What a virtual machine is made of: Debian's stock kernel unpacked in the checkout, qemu and virtme-ng."""

import os
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dmvpn.errors import Fault

PRIVATE: Final = Path(__file__).parents[3] / ".vm"  # where scripts/setup unpacks the kernel; absent outside a checkout
QEMU: Final = "qemu-system-x86_64"
_PROGRAMS: Final = ((QEMU, "qemu-system-x86"), ("busybox", "busybox-static"))


@dataclass(frozen=True, slots=True)
class Image:
    """A kernel with its modules, and the program that starts it."""

    kernel: Path
    modules: Path
    release: str
    vng: Path
    qemu: str


def find() -> Image:
    """Raises Fault with what is missing and how to get it."""
    if platform.machine() != "x86_64":
        raise Fault("virtual machine", f"needs an x86-64 machine, this is {platform.machine()}")
    if os.geteuid() != 0:
        raise Fault("virtual machine", "needs root: the guest reads this machine's files as root does")
    setup = "run: scripts/setup vm"
    vng = Path(sys.executable).with_name("vng")
    if not vng.exists():
        raise Fault("virtual machine", "needs the Python package virtme-ng", f"{setup} (or pip install opendmvpn[vm])")
    found = sorted(PRIVATE.glob("boot/vmlinuz-*"))
    if not found:
        raise Fault("virtual machine", f"no kernel is unpacked in {PRIVATE}", setup)
    release = found[-1].name.removeprefix("vmlinuz-")
    modules = PRIVATE / "lib" / "modules" / release
    if not (modules / "modules.dep").exists():
        raise Fault("virtual machine", f"{modules} is not whole", f"remove {PRIVATE} and {setup}")
    for program, package in _PROGRAMS:
        if shutil.which(program) is None:
            raise Fault("virtual machine", f"needs {program}", f"install the Debian package {package}, or {setup}")
    return Image(found[-1], modules, release, vng, str(shutil.which(QEMU)))


def why_not() -> str:
    """Why no virtual machine can be started here; empty when one can."""
    try:
        find()
    except Fault as fault:
        return str(fault)
    return ""
