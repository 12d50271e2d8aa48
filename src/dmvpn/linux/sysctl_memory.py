"""What the kernel's settings were before we set them, for `uninstall`. Below /run: after a boot both are new.

One JSON file beside the state of netstate: name -> [before, ours]. The first word about a name counts.
"""

import json
from pathlib import Path

from dmvpn.errors import Fault
from dmvpn.linux import files
from dmvpn.linux.sysctl import sysctl_faults, sysctl_path, sysctl_value

NAME = "sysctls.json"
LIMIT_OCTETS = 1 << 20


def remember(directory: Path, before: dict[str, str], ours: dict[str, str]) -> None:
    """Before they are set: what they are now, and what we are about to set. Raises Fault."""
    known = _read(directory)
    for name, value in before.items():
        known[name] = (known[name][0] if name in known else value, ours[name])
    files.write(directory / NAME, json.dumps(known, indent=1) + "\n")


def changed(directory: Path) -> dict[str, str]:
    """What is still as we set it, with its value from before. Raises Fault."""
    return {name: before for name, (before, ours) in _read(directory).items() if sysctl_value(name) == ours}


def give_back(directory: Path) -> None:
    """In the order in which they were set, since ip_forward resets others. Raises Fault."""
    for name, before in changed(directory).items():
        with sysctl_faults(name, before):
            sysctl_path(name).write_text(before)
    # A device's settings follow `all` when that is written; whoever had other ones there has them in sysctl.d.
    files.remove(directory / NAME)


def hand_on(directory: Path, other: Path) -> None:
    """Another network's memory learns ours; what it knows itself came later. Raises Fault."""
    files.make_directory(other)
    files.write(other / NAME, json.dumps({**_read(other), **_read(directory)}, indent=1) + "\n")
    files.remove(directory / NAME)


def _read(directory: Path) -> dict[str, tuple[str, str]]:
    path = directory / NAME
    if not path.exists():
        return {}
    try:
        value = json.loads(files.read_text(path, limit_octets=LIMIT_OCTETS))
        return {str(name): (str(before), str(ours)) for name, (before, ours) in value.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise Fault(str(path), "cannot be read", "remove it; settings of the kernel then stay as they are") from error
