"""A set of policy files: their control attributes, the order awall puts them in, and their merged sections."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from dmvpn.firewall.awall import json_text, yaml_text
from dmvpn.firewall.awall.document import Member, Node, Place, Report, items, quoted
from dmvpn.firewall.awall.wording import instead

LARGEST_OCTETS = 1 << 20  # of one file
MOST_FILES = 256
DEFAULTS = "%defaults"  # the pseudo policy that everything is after, unless it says to be before it

READERS = {"json": json_text.read, "yaml": yaml_text.read}
FILE_NAME = re.compile(r"([A-Za-z0-9-]{1,64})\.(json|yaml|toml)")

LISTS = (
    "filter",
    "policy",
    "snat",
    "dnat",
    "mark",
    "route-track",
    "clamp-mss",
    "packet-log",
    "classify",
    "ttl",
    "tproxy",
    "no-track",
)  # appended in the files' order
NAMED = ("zone", "service", "log", "limit", "ipset", "custom", "variable")  # by name; the last definition counts
CONTROL = ("description", "import", "after", "before")


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """One file: its policy's name, what it says, and the policies it names."""

    name: str
    at: Place
    sections: Mapping[str, Member]
    imports: tuple[Node, ...]
    after: tuple[str, ...] | None
    before: tuple[str, ...]
    ordering: tuple[Node, ...] = ()  # the names under after and before, with their places


@dataclass(slots=True)
class Sections:
    """What all files together say: lists of rules in order, and definitions by name."""

    rules: dict[str, list[Node]] = field(default_factory=lambda: {word: [] for word in LISTS})
    named: dict[str, dict[str, Member]] = field(default_factory=lambda: {word: {} for word in NAMED})


def read_file(path: str, text: str, report: Report) -> PolicyFile | None:
    """One policy of the file at `path`. None when it cannot be read; the report says why."""
    start = Place(path, 1, 1)
    matched = FILE_NAME.fullmatch(PurePosixPath(path).name)
    if matched is None:
        report.wrong(start, "awall reads no file of this name", "use letters, digits and -, then .json or .yaml")
        return None
    name, suffix = matched.groups()
    if suffix not in READERS:
        report.wrong(start, "TOML policies are not read here", "write the policy as JSON or YAML")
        return None
    if len(text.encode("utf-8", "surrogatepass")) > LARGEST_OCTETS:
        report.wrong(start, f"the file is larger than {LARGEST_OCTETS} octets", "split the policy")
        return None
    node = READERS[suffix](text, path, report)
    if node is None:
        return None
    if not isinstance(node.value, dict):
        report.wrong(node.at, f"a policy is an object, not {node.kind}", "write { ... } around it")
        return None
    after, before = _names(node.value, "after", report), _names(node.value, "before", report)
    return PolicyFile(
        name=name,
        at=node.at,
        sections={word: member for word, member in node.value.items() if _known(word, member, report)},
        imports=_names(node.value, "import", report),
        after=tuple(str(one.value) for one in after) if "after" in node.value else None,
        before=tuple(str(one.value) for one in before),
        ordering=(*after, *before),
    )


def _known(word: str, member: Member, report: Report) -> bool:
    if word in CONTROL:
        if word == "description" and not isinstance(member.value.value, str):
            report.wrong(member.value.at, f"the description is {member.value.kind}", "write a string")
        return False
    if word in LISTS or word in NAMED:
        return True
    report.wrong(member.at, f"a policy has no section {quoted(word)}", instead(word, (*CONTROL, *LISTS, *NAMED)))
    return False


def _names(members: Mapping[str, Member], word: str, report: Report) -> tuple[Node, ...]:
    if word not in members:
        return ()
    found = []
    for node in items(members[word].value):
        if isinstance(node.value, str) and node.value:
            found.append(node)
        else:
            report.wrong(node.at, f"{word} names policies, this is {node.kind}", "write names of policies")
    return tuple(found)


def unique(files: Iterable[PolicyFile], report: Report) -> dict[str, PolicyFile]:
    """The files by name; two of one name are wrong, whatever folders they are in."""
    found: dict[str, PolicyFile] = {}
    for file in files:
        if file.name in found:
            report.wrong(file.at, f"{found[file.name].at.file} is policy {quoted(file.name)} as well", "rename one")
        found.setdefault(file.name, file)
    return found


def required(enabled: Iterable[str], files: Mapping[str, PolicyFile], report: Report) -> tuple[str, ...]:
    """The names of the enabled policies and of what they import, directly or by another."""
    found: list[str] = []
    waiting = list(enabled)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.append(name)
        for node in files[name].imports:
            wanted = str(node.value)
            if wanted.startswith("%"):
                continue
            if wanted in files:
                waiting.append(wanted)
            else:
                fix = instead(wanted, files) or f"put {wanted}.json beside the others"
                report.wrong(node.at, f"there is no policy {quoted(wanted)} to import", fix)
    return tuple(sorted(found))


def misspelt_order(files: Mapping[str, PolicyFile], report: Report) -> None:
    """awall passes over names that nobody has under after and before, and the order is then another than meant."""
    for file in files.values():
        for node in file.ordering:
            if str(node.value) not in (*files, DEFAULTS):
                what = f"there is no policy {quoted(str(node.value))} to be ordered by: this says nothing"
                report.warn(node.at, what, instead(str(node.value), (*files, DEFAULTS)))


def ordered(files: Mapping[str, PolicyFile], report: Report) -> tuple[str, ...]:
    """The names in processing order: each behind those it comes after, as it names them, else sorted. No %defaults.

    `after` is what is imported, less `before`, where it is not said; and everything is after %defaults, unless it says
    to be before it.
    """
    behind: dict[str, list[str]] = {DEFAULTS: [], **{name: [] for name in files}}
    for name, file in files.items():
        imported = [str(node.value) for node in file.imports if node.value not in file.before]
        behind[name] += imported if file.after is None else file.after
        behind[name] += [DEFAULTS] if DEFAULTS not in file.before else []
    for name in sorted(files):
        for later in files[name].before:
            if later in behind:
                behind[later].append(name)
    found: list[str] = []
    circles: set[frozenset[str]] = set()
    for name in sorted(behind):
        _visit(name, behind, found, circles)
    for circle in sorted(sorted(circle) for circle in circles):
        first = next(name for name in circle if name != DEFAULTS)
        report.wrong(
            files[first].at,
            f"the policies {', '.join(circle)} each come after the other",
            "take one of them out of import, after or before",
        )
    return tuple(name for name in found if name != DEFAULTS)


def _visit(start: str, behind: Mapping[str, list[str]], found: list[str], circles: set[frozenset[str]]) -> None:
    """Depth first, without recursion: a chain of imports is as long as somebody likes."""
    way: list[tuple[str, list[str]]] = []

    def enter(name: str) -> None:
        way.append((name, [wanted for wanted in reversed(behind[name]) if wanted in behind]))

    if start not in found:
        enter(start)
    while way:
        name, waiting = way[-1]
        if not waiting:
            found.append(name)
            way.pop()
            continue
        wanted = waiting.pop()
        here = [one for one, _ in way]
        if wanted in here:
            circles.add(frozenset(here[here.index(wanted) :]))
        elif wanted not in found:
            enter(wanted)


def merged(files: Iterable[PolicyFile], report: Report) -> Sections:
    """The sections of all files, which are in processing order: rules appended, definitions replaced by later ones."""
    sections = Sections()
    for file in files:
        for word, member in file.sections.items():
            node = member.value
            if word in LISTS:
                sections.rules[word] += _rules(word, node, report)
            elif isinstance(node.value, dict):
                sections.named[word].update(node.value)
            else:
                report.wrong(node.at, f"{word} is {node.kind}", "write an object of names and definitions")
    return sections


def _rules(word: str, node: Node, report: Report) -> tuple[Node, ...]:
    if isinstance(node.value, tuple | dict):
        return items(node)
    report.wrong(node.at, f"{word} is {node.kind}", "write a list of rules")
    return ()
