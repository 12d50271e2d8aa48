"""This machine among others: a code that only it has, made from machine-id(5) and giving nothing of that away."""

import hashlib
import hmac
from pathlib import Path

from dmvpn.errors import Fault
from dmvpn.linux import files

MACHINE_ID = Path("/etc/machine-id")
_PURPOSE = b"OpenDMVPN invitation"


def machine_code(path: Path = MACHINE_ID) -> str:
    """32 hexadecimal digits. Raises Fault for a machine without an id, which could be any."""
    text = files.read_text(path, limit_octets=256).strip()
    if len(text) < 32:
        raise Fault(str(path), "holds no machine id", "make one with systemd-machine-id-setup, or dbus-uuidgen")
    # machine-id(5): it is to be hashed with the application's own key before anybody else sees it.
    return hmac.new(text.encode(), _PURPOSE, hashlib.sha256).hexdigest()[:32]
