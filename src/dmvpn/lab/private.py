"""A node's own file system: /etc, /var and /run that nobody else sees, over the host's programs. Runs inside the node.

Programs that the set-up could not install without removing others lie unpacked in the checkout's .private/; here they
are laid over /usr, where only the lab sees them.

/etc and /var are overlays over the host's, so that programs find their defaults, and lose what is written when the lab
ends. Where the kernel has no overlayfs, /etc is a copy and /var is empty.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from dmvpn.linux import namespaces, process
from dmvpn.network.plan import Address

MARKER = Path("/etc/dmvpn/.lab")  # whoever finds it knows that this /etc is a lab router's, not the host's
UNPACKED = Path(__file__).parents[3] / ".private"  # where scripts/setup unpacks; absent outside a checkout
_STAGING = Path("/run")
_TMPFS_FLAGS = namespaces.MS_NOSUID | namespaces.MS_NODEV
_PROC_FLAGS = namespaces.MS_NOSUID | namespaces.MS_NODEV | namespaces.MS_NOEXEC


def furnish(lab: str, node: str, names: Sequence[tuple[Address, str]]) -> None:
    """Mounts and first files of one node; call it in the node's own mount, network and UTS namespaces."""
    namespaces.mount("none", Path("/"), flags=namespaces.MS_REC | namespaces.MS_PRIVATE)
    # The layers lie on a tmpfs under /run that the node's own /run then covers.
    _tmpfs(_STAGING, "mode=0755")
    if UNPACKED.is_dir():
        namespaces.mount("overlay", Path("/usr"), "overlay", options=f"lowerdir={UNPACKED / 'usr'}:/usr")
    _private_etc()
    _private_var()
    _tmpfs(_STAGING, "mode=0755")
    (_STAGING / "lock").mkdir()
    for directory in (MARKER.parent, Path("/var/lib/dmvpn")):
        directory.mkdir(parents=True, exist_ok=True)
        _tmpfs(directory, "mode=0755")  # also hides what the host itself has there
    # /sys shows the devices of the network namespace it was mounted in.
    namespaces.mount("sysfs", Path("/sys"), "sysfs", flags=_PROC_FLAGS)
    MARKER.write_text(f"{lab}\n")
    namespaces.set_hostname(node)
    Path("/etc/hostname").write_text(f"{node}\n")
    _routing_user()
    lines = ["127.0.0.1 localhost", f"127.0.1.1 {node}", "::1 localhost ip6-localhost"]
    lines += [f"{address} {name}" for address, name in names]
    hosts = Path("/etc/hosts")
    hosts.unlink(missing_ok=True)  # in a container it may be a mount of its own, beneath the overlay
    hosts.write_text("\n".join(lines) + "\n")


def find(program: str) -> str:
    """The path of a program as a node sees it. Raises Fault for one that neither the host nor .private/ has."""
    for directory in ("usr/sbin", "usr/bin"):
        if "/" not in program and (UNPACKED / directory / program).is_file():
            return f"/{directory}/{program}"
    return process.find(program)


def _tmpfs(target: Path, options: str) -> None:
    namespaces.mount("tmpfs", target, "tmpfs", flags=_TMPFS_FLAGS, options=options)


def _routing_user() -> None:
    """FRR's daemons run as user frr, whom its package makes when it is installed rather than unpacked."""
    passwd, group = Path("/etc/passwd"), Path("/etc/group")
    if any(line.startswith("frr:") for line in passwd.read_text().splitlines()):
        return
    with passwd.open("a") as users, group.open("a") as groups:
        users.write("frr:x:919:919::/nonexistent:/usr/sbin/nologin\n")
        groups.write("frr:x:919:\nfrrvty:x:920:frr\n")


def _private_etc() -> None:
    if _overlay(Path("/etc")):
        return
    copy = _STAGING / "etc"
    shutil.copytree("/etc", copy, symlinks=True, ignore_dangling_symlinks=True)
    namespaces.mount(str(copy), Path("/etc"), flags=namespaces.MS_BIND)


def _private_var() -> None:
    if _overlay(Path("/var")):
        return
    _tmpfs(Path("/var"), "mode=0755")
    for name in ("lib", "log", "cache", "tmp", "spool"):
        (Path("/var") / name).mkdir()
    (Path("/var/run")).symlink_to("/run")
    (Path("/var/lock")).symlink_to("/run/lock")


def _overlay(target: Path) -> bool:
    if not namespaces.has_filesystem("overlay"):
        return False
    upper, work = _STAGING / f"{target.name}.upper", _STAGING / f"{target.name}.work"
    upper.mkdir()
    work.mkdir()
    namespaces.mount("overlay", target, "overlay", options=f"lowerdir={target},upperdir={upper},workdir={work}")
    return True
