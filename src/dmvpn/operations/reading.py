"""Reading a network file: check, schema, Plans."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dmvpn.errors import Fault, Finding, Problem, Problems, WrongInput
from dmvpn.linux import files, kernel_facts
from dmvpn.network import compile, loading, play, schema, source
from dmvpn.network.awall import of_files, policy_files, strangers, unserved
from dmvpn.network.model import Network
from dmvpn.network.plan import Plan, Plane
from dmvpn.operations.here import Here

FILE_LIMIT_OCTETS = 4 << 20
SECRET_LIMIT_OCTETS = 4096
POLICY_LIMIT_OCTETS = 128 << 10  # of one file of awall's: bundles carry them all
HIDDEN = b"hidden"
AWALL_IS_BESIDE = "put it there, or take it out of policy.awall"


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


def as_played(file: NetworkFile) -> NetworkFile:
    """The file as a lab plays it, with all its checks: another text where `lab.play` names somebody."""
    if not file.network.lab.play:
        return file
    values: Any = source.read(file.text, file.name).values
    return from_text(play.played_text(values, file.network), f"{file.name}, as its lab plays it", file.directory)


def in_force(here: Here) -> NetworkFile:
    """The file of the revision in force, with the secrets that came with it. Raises as `read` does."""
    return replace(read(here.network_file), directory=here.beside)


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
    network, warnings = loading.load_with_warnings(text, name)
    return NetworkFile(name, directory, text, network, tuple(warnings))


def check(path: Path) -> tuple[Finding, ...]:
    """All findings of a file and of awall's that it names, warnings among them. Never raises for what is in them."""
    text = _text(path)
    try:
        network, warnings = loading.load_with_warnings(text, str(path))
    except Problems as problems:
        return problems.findings
    return (*warnings, *_of_awall(NetworkFile(str(path), path.parent, text, network, ())))


def _of_awall(file: NetworkFile) -> tuple[Finding, ...]:
    """Findings in awall's files, as seen from where the network file is."""
    paths = policy_files(file.network)
    if not paths:
        return ()
    missing = _missing(file, paths)
    if missing:
        return missing
    try:
        with _beside(file):
            translated = of_files(paths, policies(file.network, file.directory))
    except Problems as problems:
        return problems.findings
    except Fault as fault:
        return (Finding(fault.where, fault.what, fault.fix, warning=False),)
    places = source.read(file.text, file.name)
    found = (*translated.warnings, *strangers(translated, plans_without_secrets(file).values()))
    return (
        *(places.finding(problem) for problem in unserved(translated, file.network)),
        *(_from_here(file, finding) for finding in found),
    )


def _missing(file: NetworkFile, paths: tuple[str, ...]) -> tuple[Finding, ...]:
    """awall's files that cannot be read, each where the network file names it."""
    places = source.read(file.text, file.name)
    found = []
    for index, path in enumerate(paths):
        if not (file.directory / path).is_file():
            what = f"awall's file {file.directory / path} is not there"
            found.append(places.finding(Problem(("policy", "awall", index), what, AWALL_IS_BESIDE)))
    return tuple(found)


@contextlib.contextmanager
def _beside(file: NetworkFile) -> Iterator[None]:
    """awall's files are named as the network file names them; whoever reads a message may be elsewhere."""
    try:
        yield
    except Problems as problems:
        raise Problems([_from_here(file, finding) for finding in problems.findings]) from None


def _from_here(file: NetworkFile, finding: Finding) -> Finding:
    if finding.where.split(":")[0] not in policy_files(file.network):
        return finding
    return replace(finding, where=str(file.directory / finding.where))


def json_schema() -> dict[str, Any]:
    return schema.json_schema()


USERSPACE_ONLY = (Plane.USERSPACE,)  # what is assumed of a machine that is not this one


def plan_of(file: NetworkFile, router: str, planes: tuple[Plane, ...] = USERSPACE_ONLY) -> Plan:
    """The Plan of one router on a machine that has these planes; see planes_here().

    Raises WrongInput for a router that is unknown or not ours, and for a missing secret.
    """
    known = secrets(file, router)
    with _beside(file):
        return compile.compile_plan(file.network, router, planes=planes, secrets=known)


def plan_without_secrets(file: NetworkFile, router: str, planes: tuple[Plane, ...] = USERSPACE_ONLY) -> Plan:
    """As plan_of, for whoever only looks: no secret file is read, and none of the Plan's secrets is the true one."""
    hidden = dict.fromkeys(compile.secret_files(file.network, router), HIDDEN)
    known = hidden | policies(file.network, file.directory)
    with _beside(file):
        return compile.compile_plan(file.network, router, planes=planes, secrets=known)


def plans(file: NetworkFile, planes: tuple[Plane, ...] = USERSPACE_ONLY) -> dict[str, Plan]:
    return {router: plan_of(file, router, planes) for router in compile.routers(file.network)}


def plans_without_secrets(file: NetworkFile) -> dict[str, Plan]:
    return {router: plan_without_secrets(file, router) for router in compile.routers(file.network)}


def planes_here() -> tuple[Plane, ...]:
    """The planes that this machine has, as tried in a throwaway namespace; needs root."""
    return (Plane.KERNEL, *USERSPACE_ONLY) if kernel_facts.has_kernel_plane() else USERSPACE_ONLY


def plane_is_open(file: NetworkFile, router: str) -> bool:
    """Whether the machine decides about this router's plane, and not the file."""
    return compile.plane_is_open(file.network, router)


def secrets(file: NetworkFile, router: str) -> dict[str, bytes]:
    """The secret files that this router's Plan needs, and awall's. Raises Fault if one is missing or open to others."""
    found = policies(file.network, file.directory)
    for name in compile.secret_files(file.network, router):
        octets = files.read_private(file.directory / name, limit_octets=SECRET_LIMIT_OCTETS)
        found[name] = octets.rstrip(b"\r\n")
    return found


def policies(network: Network, directory: Path) -> dict[str, bytes]:
    """awall's files that the network file names, which are no secrets. Raises WrongInput if one cannot be read."""
    found = {}
    for name in dict.fromkeys(policy_files(network)):
        try:
            found[name] = files.read(directory / name, limit_octets=POLICY_LIMIT_OCTETS)
        except Fault as fault:
            raise WrongInput(fault.where, fault.what, fault.fix or AWALL_IS_BESIDE) from fault
    return found


def our_routers(file: NetworkFile) -> tuple[str, ...]:
    return compile.routers(file.network)
