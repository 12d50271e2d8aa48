"""Reading a network file: check, schema, Plans."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dmvpn.errors import Finding, Problems, WrongInput
from dmvpn.linux import files, kernel_facts
from dmvpn.network import compile, loading, schema
from dmvpn.network.model import Network
from dmvpn.network.plan import Plan, Plane

FILE_LIMIT_OCTETS = 4 << 20
SECRET_LIMIT_OCTETS = 4096


@dataclass(frozen=True, slots=True)
class NetworkFile:
    """A loaded file: its text as written, the model, what is worth a warning, and where its secrets' paths begin."""

    name: str
    directory: Path
    text: str
    network: Network
    warnings: tuple[Finding, ...]


def read(path: Path) -> NetworkFile:
    """Load and check a network file. Raises Problems with everything that is wrong at once."""
    return from_text(_text(path), str(path), path.parent)


def _text(path: Path) -> str:
    octets = files.read(path, limit_octets=FILE_LIMIT_OCTETS)
    try:
        return octets.decode()
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        raise WrongInput(
            f"{path}:{line}", f"octet {octets[error.start]:#04x} is not UTF-8", "save it as UTF-8"
        ) from error


def from_text(text: str, name: str, directory: Path) -> NetworkFile:
    findings = loading.check(text, name)
    if any(not finding.warning for finding in findings):
        raise Problems(findings)
    return NetworkFile(name, directory, text, loading.load(text, name), tuple(findings))


def check(path: Path) -> tuple[Finding, ...]:
    """All findings of a file, warnings among them. Never raises for what is in the file."""
    return tuple(loading.check(_text(path), str(path)))


def json_schema() -> dict[str, Any]:
    return schema.json_schema()


USERSPACE_ONLY = (Plane.USERSPACE,)  # what is assumed of a machine that is not this one


def plan_of(file: NetworkFile, router: str, planes: tuple[Plane, ...] = USERSPACE_ONLY) -> Plan:
    """The Plan of one router on a machine that has these planes; see planes_here().

    Raises WrongInput for a router that is unknown or not ours, and for a missing secret.
    """
    return compile.compile_plan(file.network, router, planes=planes, secrets=secrets(file, router))


def plans(file: NetworkFile, planes: tuple[Plane, ...] = USERSPACE_ONLY) -> dict[str, Plan]:
    return {router: plan_of(file, router, planes) for router in compile.routers(file.network)}


def planes_here() -> tuple[Plane, ...]:
    """The planes that this machine has, as tried in a throwaway namespace; needs root."""
    return (Plane.KERNEL, *USERSPACE_ONLY) if kernel_facts.has_kernel_plane() else USERSPACE_ONLY


def plane_is_open(file: NetworkFile, router: str) -> bool:
    """Whether the machine decides about this router's plane, and not the file."""
    return compile.plane_is_open(file.network, router)


def secrets(file: NetworkFile, router: str) -> dict[str, bytes]:
    """The secret files that this router's Plan needs. Raises Fault if one is missing or open to others."""
    found = {}
    for name in compile.secret_files(file.network, router):
        path = file.directory / name
        files.check_private(path)
        found[name] = files.read(path, limit_octets=SECRET_LIMIT_OCTETS).rstrip(b"\r\n")
    return found


def our_routers(file: NetworkFile) -> tuple[str, ...]:
    return compile.routers(file.network)
