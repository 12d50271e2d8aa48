"""Whether this machine's KVM boots a stock kernel: /dev/kvm may be there and hang. Tried once, and remembered."""

import json
import os
import select
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dmvpn.lab.vm_image import PRIVATE, Image
from dmvpn.linux import files

DEVICE: Final = Path("/dev/kvm")
PROBE_LIMIT_S: Final = 15.0
_FIRST_WORDS: Final = b"Linux version"
_REMEMBERED: Final = "kvm.json"
# Only what says hello on a serial line. With panic=-1 it ends by itself when it finds no root.
_ARGUMENTS: Final = (
    *("-enable-kvm", "-cpu", "host", "-m", "512M", "-display", "none", "-monitor", "none", "-serial", "stdio"),
    *("-no-reboot", "-net", "none", "-append", "console=ttyS0 earlyprintk=serial,ttyS0,115200 panic=-1"),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`why` is empty when KVM can be used."""

    why: str

    @property
    def usable(self) -> bool:
        return not self.why


def verdict(image: Image, directory: Path = PRIVATE) -> Verdict:
    """From memory, as long as this machine's own kernel, qemu and the guest's kernel are the same; else by trying."""
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        return Verdict(f"no {DEVICE}")
    about = [os.uname().release, Path("/proc/sys/kernel/random/boot_id").read_text().strip(), image.qemu, image.release]
    with suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads((directory / _REMEMBERED).read_text())
        if known["about"] == about:
            return Verdict(str(known["why"]))
    found = Verdict(_try(image))
    with suppress(OSError):
        files.write(directory / _REMEMBERED, json.dumps({"about": about, "why": found.why}))
    return found


def _try(image: Image) -> str:
    """Why a stock kernel does not come up on KVM; empty when it does."""
    argv = (image.qemu, *_ARGUMENTS, "-kernel", str(image.kernel))
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    ) as child:
        assert child.stdout is not None
        said = b""
        deadline = time.monotonic() + PROBE_LIMIT_S
        try:
            while _FIRST_WORDS not in said and (left := deadline - time.monotonic()) > 0:
                if not select.select([child.stdout], [], [], left)[0]:
                    break
                octets = os.read(child.stdout.fileno(), 65536)
                if not octets:
                    break
                said += octets
        finally:
            child.kill()
    if _FIRST_WORDS in said:
        return ""
    words = " ".join(said.decode(errors="replace").split())[-160:]
    told = f": {words}" if words and "could not" in words.lower() else ""
    return f"{DEVICE} boots no kernel within {PROBE_LIMIT_S:g} s{told}"
