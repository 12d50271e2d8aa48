"""awall's files as a policy of ours: read, ordered, merged, expanded, translated; all problems at once."""

from collections.abc import Iterable
from dataclasses import dataclass

from dmvpn.errors import Finding
from dmvpn.firewall.awall import advice
from dmvpn.firewall.awall.attributes import SECTIONS_REFUSED
from dmvpn.firewall.awall.definitions import Definitions
from dmvpn.firewall.awall.document import Report, every
from dmvpn.firewall.awall.filters import Filters
from dmvpn.firewall.awall.limits import Limits
from dmvpn.firewall.awall.log_words import LogWords
from dmvpn.firewall.awall.matches import Matches
from dmvpn.firewall.awall.policies import (
    PolicyFile,
    Sections,
    merged,
    misspelt_order,
    ordered,
    read_file,
    required,
    unique,
)
from dmvpn.firewall.awall.translations import clamps, marks, nats
from dmvpn.firewall.awall.variables import Variables
from dmvpn.firewall.policy import Icmp, Policy

MOST_RULES = 20_000


@dataclass(frozen=True, slots=True)
class Source:
    """A policy file: where it is, as messages name it, and what it says. `enabled`: it counts, imported or not."""

    path: str
    text: str
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Translated:
    """What the files mean together. `order` are the paths of those that count, as they were processed."""

    policy: Policy
    order: tuple[str, ...]
    warnings: tuple[Finding, ...]


def translate(sources: Iterable[Source]) -> Translated:
    """The policy of a set of files. Raises Problems with everything that is wrong in them, and the warnings."""
    report = Report()
    files: list[PolicyFile] = []
    enabled: list[str] = []
    for source in sources:
        file = read_file(source.path, source.text, report)
        if file is not None:
            files.append(file)
            enabled += [file.name] if source.enabled else []
    _nulls(files, report)
    by_name = unique(files, report)
    misspelt_order(by_name, report)
    wanted = required(enabled, by_name, report)
    in_order = ordered({name: by_name[name] for name in wanted}, report)
    sections = merged((by_name[name] for name in in_order), report)
    policy = _policy(sections, report)
    advice.give(policy, sections, tuple(by_name.values()), in_order, report)
    return Translated(policy, tuple(by_name[name].at.file for name in in_order), report.settled())


def _nulls(files: Iterable[PolicyFile], report: Report) -> None:
    for file in files:
        for member in file.sections.values():
            for node in every(member.value):
                if node.value is None:
                    report.wrong(node.at, "null says nothing", "write a value, or remove the member")


def _policy(sections: Sections, report: Report) -> Policy:
    _refused(sections, report)
    variables = Variables(sections.named["variable"], report)
    definitions = Definitions(sections, variables, report)
    definitions.read_all()
    matches = Matches(definitions, report)
    logs = LogWords(definitions)
    filters = Filters(matches, Limits(definitions, logs), logs)
    rules = {word: [variables.expanded(node) for node in nodes] for word, nodes in sections.rules.items()}
    for word, nodes in rules.items():
        if len(nodes) > MOST_RULES:
            report.wrong(nodes[MOST_RULES].at, f"more than {MOST_RULES} rules under {word}", "split the router")
            return Policy()
    found = tuple(rule for node in rules["filter"] for rule in filters.filters(node))
    defaults = tuple(rule for node in rules["policy"] for rule in filters.policies(node))
    source_nat = tuple(nat for node in rules["snat"] for nat in nats(node, "snat", matches))
    destination_nat = tuple(nat for node in rules["dnat"] for nat in nats(node, "dnat", matches))
    clamped = tuple(clamp for node in rules["clamp-mss"] for clamp in clamps(node, matches))
    # In awall's order of the sections: what is tracked is marked before plain marks are.
    marked = tuple(
        mark for section in ("route-track", "mark") for node in rules[section] for mark in marks(node, section, matches)
    )
    return Policy(
        zones=tuple(matches.zones.values()),
        services=tuple(matches.services.values()),
        sets=tuple(matches.sets.values()),
        logs=tuple(logs.used.values()),
        rules=found,
        defaults=defaults,
        source_nat=source_nat,
        destination_nat=(*filters.nats, *destination_nat),
        clamps=clamped,
        marks=marked,
        icmp=Icmp.AFTER_RULES,
    )


def _refused(sections: Sections, report: Report) -> None:
    for word, (what, fix) in SECTIONS_REFUSED.items():
        for node in sections.rules.get(word, ()):
            report.wrong(node.at, f"{word}: {what}", fix)
        for member in sections.named.get(word, {}).values():
            report.wrong(member.at, f"{word}: {what}", fix)
