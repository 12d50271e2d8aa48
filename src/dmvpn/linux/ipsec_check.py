"""`python -m dmvpn.linux.ipsec_check TREE SWANCTL_DIR`: would charon take these files? There is no offline checker.

A charon with the staged strongswan.conf starts in a network and a mount namespace of this process's own, with a private
/run, and swanctl loads the staged swanctl.conf with the router's real keys. Nothing of it can be seen from outside.
Writes one line to stderr and exits 1 for what charon or swanctl refuses.
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from dmvpn.errors import Fault
from dmvpn.linux import namespaces, process
from dmvpn.linux.pace import patience

CHARON: Final = "/usr/lib/ipsec/charon"
RUN: Final = Path("/run")
STRONGSWAN: Final = Path("/etc/strongswan.conf")
VICI: Final = RUN / "charon.vici"  # where the rendered strongswan.conf puts it

START_LIMIT_S: Final = 10.0
LOAD_LIMIT_S: Final = 10.0
POLL_S: Final = 0.01

# What charon says when it gives up, among all that it says.
# A directory of keys of a kind we do not use need not exist, nor a plugin of swanctl's long compiled-in list.
HARMLESS: Final = ("opening directory", "plugin '")
TROUBLE: Final = ("fail", "error", "unable", "invalid", "not found", "syntax", "aborting")


def check(tree: Path, swanctl_dir: Path) -> None:
    """Load the files of `tree`. Enters new namespaces: only for a process that ends afterwards. Raises Fault."""
    strongswan, swanctl = tree / "strongswan.conf", tree / "swanctl.conf"
    for needed in (strongswan, swanctl, swanctl_dir):
        if not needed.exists():
            raise Fault(
                str(needed), "does not exist", "run `dmvpn pki install` first: charon needs its certificate and key"
            )
    namespaces.unshare(namespaces.CLONE_NEWNET | namespaces.CLONE_NEWNS)
    # The staged tree may itself be below /run.
    staged = tempfile.TemporaryDirectory(prefix="dmvpn-ipsec-check-", ignore_cleanup_errors=True)
    with staged as directory:
        copies = {source: Path(directory) / source.name for source in (strongswan, swanctl)}
        for source, copy in copies.items():
            copy.write_bytes(source.read_bytes())
        namespaces.mount("none", Path("/"), flags=namespaces.MS_REC | namespaces.MS_PRIVATE)
        namespaces.mount("tmpfs", RUN, "tmpfs", options="mode=0755")
        # Where Debian's AppArmor profile lets charon read it.
        namespaces.mount(str(copies[strongswan]), STRONGSWAN, flags=namespaces.MS_BIND)
        with tempfile.TemporaryFile() as said:
            charon = _start(said.fileno())
            try:
                _wait(charon, said.fileno(), strongswan)
                _load(copies[swanctl], swanctl_dir, swanctl)
            finally:
                # It has nothing to tell to anybody; an orderly end would take a second.
                charon.kill()
                charon.wait()


def _start(said: int) -> subprocess.Popen[bytes]:
    # The cwd is left alone; the parent's death must not leave a charon behind.
    return subprocess.Popen(
        (process.find(CHARON, "strongswan-charon"),),
        stdin=subprocess.DEVNULL,
        stdout=said,
        stderr=said,
        env={name: value for name, value in os.environ.items() if name != "SWANCTL_DIR"},
    )


def _wait(charon: subprocess.Popen[bytes], said: int, where: Path) -> None:
    deadline = time.monotonic() + patience(START_LIMIT_S)
    while not _answers():
        if charon.poll() is not None:
            raise Fault(str(where), f"charon does not start with it: {_trouble(said)}")
        if time.monotonic() > deadline:
            raise Fault(str(where), f"charon has no vici socket after {START_LIMIT_S:g} s: {_trouble(said)}")
        time.sleep(POLL_S)


def _answers() -> bool:
    # The path exists a moment before anybody listens there.
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(VICI)) == 0


def _load(swanctl: Path, swanctl_dir: Path, where: Path) -> None:
    argv = ("python3", "-m", "dmvpn.linux.swanctl_load", str(swanctl), str(swanctl_dir), str(VICI))
    result = process.run(argv, timeout_s=LOAD_LIMIT_S, accept=range(256))
    text = (result.stdout + result.stderr).decode(errors="replace")
    # Some refusals leave the status at 0; a load that worked says so.
    troubles = _lines_of_trouble(text)
    if result.status != 0 or troubles:
        raise Fault(str(where), " | ".join(troubles) or process.shown(text.encode()))


def _trouble(said: int) -> str:
    text = os.pread(said, 1 << 20, 0).decode(errors="replace")
    return " | ".join(_lines_of_trouble(text)[-5:]) or process.shown(text.encode())


def _lines_of_trouble(text: str) -> list[str]:
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if any(word in line.lower() for word in TROUBLE) and not line.startswith(HARMLESS)]


def main(argv: list[str]) -> int:
    if len(argv) != 2:
        sys.stderr.write("usage: python -m dmvpn.linux.ipsec_check TREE SWANCTL_DIR\n")
        return 2
    try:
        check(Path(argv[0]).absolute(), Path(argv[1]).absolute())
    except Fault as fault:
        sys.stderr.write(f"{fault}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"ipsec_check: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
