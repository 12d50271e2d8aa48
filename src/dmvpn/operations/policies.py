"""Zone policies as nftables' rules: of a router of the network file, and of a folder of awall's files."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dmvpn.errors import Fault, Finding, Problems, WrongInput
from dmvpn.firewall import nft
from dmvpn.firewall.assembly import assemble
from dmvpn.firewall.awall.policies import FILE_NAME, LARGEST_OCTETS, MOST_FILES
from dmvpn.firewall.awall.translation import Source, Translated, translate
from dmvpn.linux import files
from dmvpn.operations import change, keeping, reading
from dmvpn.render import nftables

TABLE = "awall"
AVAILABLE = ("optional", "private")  # folders of policies that count when something asks for them
SUFFIXES = (".json", ".yaml", ".yml", ".toml")


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder's policies: their paths in processing order, what they mean, and what is worth a warning."""

    translated: Translated
    warnings: tuple[Finding, ...]

    @property
    def order(self) -> tuple[str, ...]:
        return self.translated.order


def import_folder(directory: Path) -> Folder:
    """Read and check awall's files as /etc/awall has them. Raises Problems with everything that is wrong at once.

    The folder's own files count, and those in `optional` and `private` that are linked from it or imported. A folder
    without such folders is one whose files all count.
    """
    sources, findings = _sources(directory)
    unread = any(not finding.warning for finding in findings)
    if not sources and not unread:
        fix = "name a folder with files such as vpnc.json"
        raise Problems([*findings, Finding(f"{directory}:1:1", "there is no policy file in it", fix, warning=False)])
    try:
        translated = translate(sources)
    except Problems as problems:
        raise Problems([*findings, *problems.findings]) from None
    if unread:
        raise Problems(findings)
    return Folder(translated, (*findings, *translated.warnings))


def compile_router(file: reading.NetworkFile, router: str) -> str:
    """The nftables file of a router, each rule of its policy with where it was written. Raises as plan_of does."""
    plan = reading.plan_without_secrets(file, router)
    parts = change.render(file, plan, keeping.Keeper.SUPERVISOR)
    return "\n".join(one.text for part in parts if part.engine == nftables.NAME for one in part.files)


def compile_folder(directory: Path) -> tuple[str, Folder]:
    """The nftables rules of a folder, each with the policy line it came from; nothing of a router's is among them."""
    folder = import_folder(directory)
    try:
        lines = nft.lines(assemble(folder.translated.policy))
    except Fault as fault:
        raise WrongInput(fault.where, fault.what, fault.fix) from fault
    head = [f"# {len(folder.order)} policies of {_plain(directory)}: {', '.join(map(_stem, folder.order))}"]
    head += [f"add table inet {TABLE}", f"delete table inet {TABLE}", f"table inet {TABLE} {{"]
    return "\n".join([*head, *lines, "}"]) + "\n", folder


def _plain(path: Path) -> str:
    return "".join(char if char.isprintable() else "?" for char in str(path))


def _stem(path: str) -> str:
    return Path(path).stem


def _sources(directory: Path) -> tuple[list[Source], list[Finding]]:
    if not directory.is_dir():
        raise WrongInput(str(directory), "is no folder", "name the folder that awall's files are in")
    findings: list[Finding] = []
    found: dict[Path, Source] = {}
    for folder in (directory, *(directory / name for name in AVAILABLE)):
        for path in _policies(folder, findings):
            if not path.exists():
                what = f"a link to {path.readlink()}, which is not there"
                findings.append(Finding(f"{path}:1:1", what, "mend the link, or remove it", warning=False))
                continue
            actual = path.resolve()
            enabled = folder == directory
            if actual in found:
                continue
            # A link counts as the file it leads to: that is the one to mend.
            named = directory / actual.relative_to(directory.resolve()) if _inside(actual, directory) else path
            source = _read(named, findings, enabled=enabled)
            if source is not None:
                found[actual] = source
    return list(found.values()), findings


def _inside(path: Path, directory: Path) -> bool:
    return path.is_relative_to(directory.resolve())


def _policies(folder: Path, findings: list[Finding]) -> Iterator[Path]:
    if not folder.is_dir():
        return
    with files.faults(folder):
        entries = sorted(folder.iterdir())
    names = [path for path in entries if path.name.endswith(SUFFIXES)]
    if len(names) > MOST_FILES:
        raise WrongInput(str(folder), f"has more than {MOST_FILES} policies", "move those away that are not used")
    for path in names:
        if FILE_NAME.fullmatch(path.name):
            yield path
        else:
            fix = "rename it: letters, digits and -, then .json or .yaml"
            findings.append(Finding(f"{path}:1:1", "awall reads no file of this name", fix, warning=True))


def _read(path: Path, findings: list[Finding], *, enabled: bool) -> Source | None:
    octets = files.read(path, limit_octets=LARGEST_OCTETS + 1)
    try:
        return Source(str(path), octets.decode(), enabled)
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        column = error.start - octets.rfind(b"\n", 0, error.start)
        what = f"octet {octets[error.start]:#04x} is not UTF-8"
        findings.append(Finding(f"{path}:{line}:{column}", what, "save it as UTF-8", warning=False))
        return None
