"""What awall's language has that is wrong or not done here: the whole message, with file, line and column."""

import json
import os
from pathlib import Path

import pytest

from dmvpn.errors import Problems
from dmvpn.firewall.awall.attributes import ATTRIBUTES, REFUSED, SECTIONS_REFUSED
from dmvpn.firewall.awall.translation import Source, translate

FAULTS = Path(__file__).parent / "awall-faults.txt"
ZONE = '"zone"'
ZONES = '"zone": {"E": {"iface": "eth0"}, "B": {"iface": "eth1"}},'


def said(text: str, name: str = "p.json") -> list[str]:
    """Everything that is wrong, without warnings."""
    with pytest.raises(Problems) as caught:
        translate([Source(name, text)])
    return [str(finding) for finding in caught.value.findings if not finding.warning]


def cases() -> list[tuple[str, list[str]]]:
    """Sections of a policy, and under them what is said of it."""
    found: list[tuple[str, list[str]]] = []
    for line in FAULTS.read_text().splitlines():
        if line.startswith("  "):
            found[-1][1].append(line.strip())
        elif line and not line.startswith("#"):
            found.append((line, []))
    return found


def policy_of(sections: str) -> str:
    """Zones E and B on the first line, unless the sections have zones of their own; they are on the second."""
    return f"{{{'' if sections.startswith(ZONE) else ZONES}\n{sections}}}"


def told(text: str) -> list[str]:
    try:
        found = translate([Source("p.json", text)]).warnings
    except Problems as problems:
        found = problems.findings
    return [str(finding).removeprefix("p.json:") for finding in found]


@pytest.mark.parametrize(("sections", "expected"), cases())
def test_the_message(sections: str, expected: list[str]) -> None:
    assert told(policy_of(sections)) == expected


def test_accept_the_messages() -> None:
    """DMVPN_ACCEPT=1 rewrites them; read the diff."""
    if not os.environ.get("DMVPN_ACCEPT"):
        return
    lines = [line for line in FAULTS.read_text().splitlines() if not line.startswith("  ")]
    said = ([line, *(f"  {one}" for one in told(policy_of(line)))] if line[:1] == '"' else [line] for line in lines)
    FAULTS.write_text("".join(f"{line}\n" for group in said for line in group))


@pytest.mark.parametrize("section", SECTIONS_REFUSED)
def test_a_section_that_is_not_done_is_named(section: str) -> None:
    value = '{"x": [{"match": "-m x"}]}' if section == "custom" else '[{"in": "E"}]'
    (found,) = said(policy_of(f'"{section}": {value}'))
    what, fix = SECTIONS_REFUSED[section]
    assert found.endswith(f": {section}: {what}; {fix}")


@pytest.mark.parametrize(("kind", "word"), [(kind, word) for kind, words in REFUSED.items() for word in words])
def test_an_attribute_that_is_not_done_is_named(kind: str, word: str) -> None:
    assert word not in ATTRIBUTES[kind]
    inner = {word: True}
    whole = {
        "service": {"service": {"s": inner}},
        "log": {"log": {"l": inner}},
        "limit": {"filter": {"conn-limit": inner}},
    }.get(kind, {kind: [{**inner, "action": "accept"}] if kind == "policy" else [inner]})
    found = [one for one in said(json.dumps(whole)) if f": {word} of a" in one]
    what, fix = REFUSED[kind][word]
    assert len(found) == 1
    assert found[0].endswith(f": {what}; {fix}")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("my_policy.json", "awall reads no file of this name"),
        ("p.toml", "TOML policies are not read here"),
        ("p.txt", "awall reads no file of this name"),
    ],
)
def test_a_file_of_another_name_is_told(name: str, expected: str) -> None:
    assert said("{}", name)[0].startswith(f"{name}:1:1: {expected}")


def test_a_file_that_is_too_large_is_told() -> None:
    assert said(" " * (1 << 20) + "{}") == ["p.json:1:1: the file is larger than 1048576 octets; split the policy"]


def test_variables_that_grow_without_end_are_told() -> None:
    doubled = {f"v{number}": [f"$v{number + 1}"] * 9 for number in range(12)} | {"v12": "x"}
    (found,) = said(json.dumps({"variable": doubled, "filter": {"src": "$v0"}}))
    assert "too large once variables are followed" in found
    doubled_text = {f"v{number}": f"$v{number + 1}" * 9 for number in range(12)} | {"v12": "x"}
    assert "is longer than 4096 characters" in said(json.dumps({"variable": doubled_text, "filter": {"src": "$v0"}}))[0]
