"""`python -m dmvpn.linux.swanctl_load CONF KEYS VICI`: have swanctl load a file where Debian's AppArmor profile allows.

That profile lets swanctl read below /etc/swanctl and talk to /run/charon.vici, so in a mount namespace of this process
those are ours: keys and certificates beside the file, as swanctl wants them, and the directory that has KEYS as pki.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

from dmvpn.errors import Fault
from dmvpn.linux import namespaces, process

PLACE = Path("/etc/swanctl")
RUN = Path("/run")
CONF = "swanctl.conf"
PKI = "pki"
KEY_DIRECTORIES = (
    "x509",
    "x509ca",
    "x509aa",
    "x509ac",
    "x509crl",
    "x509ocsp",
    "pubkey",
    "private",
    "rsa",
    "ecdsa",
    "pkcs8",
)


def load(conf: Path, keys: Path, vici: Path) -> NoReturn:
    """Becomes swanctl. Raises Fault if the places cannot be laid out or there is no swanctl."""
    text = conf.read_text()
    swanctl = process.find("swanctl", "strongswan-swanctl")
    place, socket = PLACE, RUN / vici.name
    try:
        namespaces.own_mounts()
        _lay_out(text, keys, vici)
    except Fault:  # in a container without namespaces, which has another profile anyhow
        place, socket = Path(tempfile.mkdtemp(prefix="dmvpn-swanctl-", dir=vici.parent)), vici
        _gather(place, text.replace(str(PLACE / PKI), str(keys.parent)), keys)
    argv = (swanctl, "--load-all", "--noprompt", "--uri", f"unix://{socket}", "--file", str(place / CONF))
    environment = {**os.environ, "SWANCTL_DIR": str(place)}
    if place == PLACE:
        os.execve(argv[0], argv, environment)
    try:
        raise SystemExit(subprocess.run(argv, env=environment, check=False).returncode)
    finally:
        shutil.rmtree(place)


def _lay_out(text: str, keys: Path, vici: Path) -> None:
    namespaces.mount("none", Path("/"), flags=namespaces.MS_REC | namespaces.MS_PRIVATE)
    if not PLACE.is_dir():
        raise Fault(str(PLACE), "does not exist", "install the Debian package strongswan-swanctl")
    namespaces.mount("tmpfs", PLACE, "tmpfs", options="mode=0700")
    (PLACE / CONF).write_text(text)
    for name, source in ((PKI, keys.parent), *((kind, keys / kind) for kind in KEY_DIRECTORIES)):
        if source.is_dir():
            (PLACE / name).mkdir()
            namespaces.mount(str(source), PLACE / name, flags=namespaces.MS_BIND)
    namespaces.mount(str(vici.parent), RUN, flags=namespaces.MS_BIND)


def _gather(place: Path, text: str, keys: Path) -> None:
    (place / CONF).write_text(text)
    for kind in KEY_DIRECTORIES:
        if (keys / kind).is_dir():
            (place / kind).symlink_to(keys / kind)


def main(arguments: list[str]) -> int:
    """The exit status where swanctl could not even be started."""
    if len(arguments) != 3:
        sys.stderr.write("usage: python -m dmvpn.linux.swanctl_load CONF KEYS VICI\n")
        return 2
    try:
        load(*(Path(argument).absolute() for argument in arguments))
    except Fault as fault:
        sys.stderr.write(f"{fault}\n")
    except OSError as error:
        sys.stderr.write(f"{error}\n")
    return 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
