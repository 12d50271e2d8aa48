"""One site in or out of a network file, and not an octet of the rest: comments, order, quotes and line endings stay.

The text is cut where ruamel says the nodes are, never dumped anew. What comes out is read again, and must be the old
values with that one change; a file whose form does not allow it is left to its author.
"""

from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import CollectionNode, MappingNode, Node

from dmvpn.errors import Problems, WrongInput
from dmvpn.network.source import read
from dmvpn.network.writing import block, flow, scalar

_STEP = 2


@dataclass(frozen=True, slots=True)
class Edited:
    """The new text, and which lines of the old one are not in it (from 1; none when lines were added)."""

    text: str
    removed_from: int = 0
    removed_lines: int = 0


def add_site(text: str, file: str, name: str, site: dict[str, Any]) -> Edited:
    """The file with one more site, after the last one. Raises WrongInput."""
    sites = _sites(text, file)
    lines = _lines(text)
    eol = "\r\n" if text.split("\n", 1)[0].endswith("\r") else "\n"
    _, last = sites.value[-1]
    if sites.flow_style:
        at = _end_index(last)
        new = f"{text[:at]}, {scalar(name)}: {flow(site)}{text[at:]}"
    else:
        indent = sites.value[0][0].start_mark.column
        after = _end_line(last)
        while after + 1 < len(lines) and _is_inside(lines[after + 1], indent):
            after += 1
        added = block({name: site}, indent)
        if _are_apart(sites, lines):
            added = ["", *added]
        above, below = "".join(lines[: after + 1]), "".join(lines[after + 1 :])
        above = above if above.endswith("\n") else above + eol
        new = above + "".join(f"{line}{eol}" for line in added) + below
    _refuse_unlike(text, new, file, {name: site}, None)
    return Edited(new)


def remove_site(text: str, file: str, name: str) -> Edited:
    """The file without that site, and without the comment lines right above it. Raises WrongInput for an unknown one.

    Whether anything else in the file still names it, its checks tell.
    """
    sites = _sites(text, file)
    names = [key.value for key, _ in sites.value]
    if name not in names:
        raise WrongInput(file, f"there is no site {name}", f"its sites are {', '.join(names)}")
    if len(names) == 1:
        raise WrongInput(file, f"{name} is its only site", "a network has at least one")
    number = names.index(name)
    edited = Edited(_without_flow(text, sites, number)) if sites.flow_style else _without_block(text, sites, number)
    _refuse_unlike(text, edited.text, file, {}, name)
    return edited


def _without_flow(text: str, sites: MappingNode, number: int) -> str:
    key, value = sites.value[number]
    if number:
        return text[: _end_index(sites.value[number - 1][1])] + text[_end_index(value) :]
    return text[: key.start_mark.index] + text[sites.value[1][0].start_mark.index :]


def _without_block(text: str, sites: MappingNode, number: int) -> Edited:
    lines = _lines(text)
    key, value = sites.value[number]
    indent = key.start_mark.column
    first, last = key.start_mark.line, _end_line(value)
    # A comment right above the site, as far in as the site, is about it.
    while first and lines[first - 1].startswith(" " * indent + "#"):
        first -= 1
    while last + 1 < len(lines) and _is_inside(lines[last + 1], indent):
        last += 1
    # Of the empty lines around it one is enough.
    if first and not lines[first - 1].strip() and (last + 1 == len(lines) or not lines[last + 1].strip()):
        first -= 1
    return Edited("".join(lines[:first] + lines[last + 1 :]), first + 1, last + 1 - first)


def _is_inside(line: str, indent: int) -> bool:
    """A comment that is further in than the site's own key."""
    bare = line.lstrip(" ")
    return bare.startswith("#") and len(line) - len(bare) > indent


def _sites(text: str, file: str) -> MappingNode:
    root = YAML(typ="safe", pure=True).compose(text)
    found = next((value for key, value in root.value if key.value == "sites"), None)
    if not isinstance(found, MappingNode) or not found.value:
        raise WrongInput(file, "has no sites", "write sites:, with one site in it")
    return found


def _lines(text: str) -> list[str]:
    """With their endings; only what ends a line of a file, not all that Python takes for one."""
    return [line + "\n" for line in text.split("\n")[:-1]] + ([rest] if (rest := text.split("\n")[-1]) else [])


def _last(node: Node) -> Node:
    while isinstance(node, CollectionNode) and node.value and not node.flow_style:
        end = node.value[-1]
        node = end[1] if isinstance(end, tuple) else end
    return node


def _end_line(node: Node) -> int:
    mark = _last(node).end_mark
    return int(mark.line) if mark.column else int(mark.line) - 1


def _end_index(node: Node) -> int:
    return int(_last(node).end_mark.index)


def _are_apart(sites: MappingNode, lines: list[str]) -> bool:
    """Whether empty lines stand between the sites there are."""
    starts = [key.start_mark.line for key, _ in sites.value[1:]]
    return bool(starts) and all(_stands_apart(lines, line) for line in starts)


def _stands_apart(lines: list[str], line: int) -> bool:
    while line and lines[line - 1].lstrip().startswith("#"):
        line -= 1
    return line > 0 and not lines[line - 1].strip()


def _refuse_unlike(old: str, new: str, file: str, added: dict[str, Any], removed: str | None) -> None:
    wanted: Any = read(old, file).values
    sites = {name: site for name, site in wanted["sites"].items() if name != removed}
    try:
        after = read(new, file)
        good = not after.problems and after.values == {**wanted, "sites": {**sites, **added}}
    except Problems:
        good = False
    if not good:
        fix = "write it by hand"
        if added:
            fix += ": " + ", ".join(f"{name}: {flow(site)}" for name, site in added.items())
        raise WrongInput(file, "its sites are written in a form that cannot be edited without changing the rest", fix)
