"""The file's text with the position of every key and value, bounded in size, depth and repetition.

YAML 1.2 in the part that a network file needs: mappings, lists, plain values, anchors within bounds. No tags, no merge
keys.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from dmvpn.errors import Finding, Problem, Problems

LARGEST_OCTETS = 4 * 1024 * 1024
DEEPEST = 24
MOST_ALIASES = 256
MOST_NODES = 500_000  # after aliases are followed

Key = tuple[str | int, ...]
Position = tuple[int, int]

_INT = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_NULL = ("", "~", "null", "Null", "NULL")
_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_TAGS = ("str", "int", "float", "bool", "null", "timestamp", "value")


@dataclass(slots=True)
class Source:
    """One file: its plain values, and where each of them is."""

    name: str
    values: object = None
    positions: dict[Key, Position] = field(default_factory=dict)
    key_positions: dict[Key, Position] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    nodes: int = 0

    def where(self, key: Key) -> str:
        """file:line:column of a value; of its key when it is a mapping or a list; of what encloses a missing one."""
        for length in range(len(key), -1, -1):
            position = self.positions.get(key[:length])
            if position is not None:
                return f"{self.name}:{position[0]}:{position[1]}"
        return f"{self.name}:1:1"

    def where_key(self, key: Key) -> str:
        position = self.key_positions.get(key)
        return self.where(key) if position is None else f"{self.name}:{position[0]}:{position[1]}"

    def call(self, key: Key, word: str) -> None:
        """From now on, what is at `key` is known by `word` in the same place."""
        for positions in (self.positions, self.key_positions):
            below = {known: where for known, where in positions.items() if known[: len(key)] == key}
            positions.update({(*key[:-1], word, *known[len(key) :]): where for known, where in below.items()})

    def finding(self, problem: Problem) -> Finding:
        return Finding(self.where(problem.key), problem.what, problem.fix, problem.warning)


def read(text: str, name: str) -> Source:
    """The file's values and positions. Raises Problems when the text is not YAML or is too large for a network file."""
    source = Source(name)
    if len(text.encode("utf-8", "surrogatepass")) > LARGEST_OCTETS:
        raise _refused(source, 1, 1, f"the file is larger than {LARGEST_OCTETS} octets", "split the network")
    odd = re.search(
        r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufeff\uff01-\ufffd\U00010000-\U0010ffff]", text.lstrip("\ufeff")
    )
    if odd is not None:
        line = text.count("\n", 0, odd.start()) + 1
        column = odd.start() - text.rfind("\n", 0, odd.start())
        raise _refused(source, line, column, f"the character U+{ord(odd[0]):04X} is not text", "remove it")
    try:
        _bound(source, text)
        root = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as trouble:
        mark = trouble.problem_mark or trouble.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        what = " ".join(str(part) for part in (trouble.context, trouble.problem) if part)
        raise _refused(source, line, column, f"not YAML: {_one_line(what)}", _advice(text, line)) from None
    except (YAMLError, ValueError, RecursionError) as trouble:
        raise _refused(source, 1, 1, f"not YAML: {_one_line(str(trouble))}", "") from None
    if root is None:
        raise _refused(source, 1, 1, "the file is empty", "begin with version: 1")
    source.values = _value(source, root, (), None)
    return source


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()[:200]


def _advice(text: str, line: int) -> str:
    lines = text.splitlines()
    if line <= len(lines) and "\t" in lines[line - 1]:
        return "indent with blanks, not tabs"
    return "look at the quotes, colons and indentation here and on the line above"


def _refused(source: Source, line: int, column: int, what: str, fix: str) -> Problems:
    return Problems([Finding(f"{source.name}:{line}:{column}", what, fix, warning=False)])


def _bound(source: Source, text: str) -> None:
    """Walk the events, which needs no recursion, before anything recursive sees the text."""
    depth = aliases = documents = 0
    for event in YAML(typ="safe", pure=True).parse(text):
        if isinstance(event, CollectionStartEvent):
            depth += 1
        elif isinstance(event, CollectionEndEvent):
            depth -= 1
        elif isinstance(event, AliasEvent):
            aliases += 1
        elif type(event).__name__ == "DocumentStartEvent":
            documents += 1
        mark = event.start_mark
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        if depth > DEEPEST:
            raise _refused(source, line, column, f"more than {DEEPEST} levels deep", "a network file needs eight")
        if aliases > MOST_ALIASES:
            raise _refused(source, line, column, f"more than {MOST_ALIASES} aliases", "write the values out")
        if documents > 1:
            raise _refused(source, line, column, "a second document begins here", "keep one network in a file")


def _value(source: Source, node: Node, key: Key, key_position: Position | None) -> object:
    source.nodes += 1
    here = (node.start_mark.line + 1, node.start_mark.column + 1)
    if source.nodes > MOST_NODES or len(key) > DEEPEST:
        raise _refused(source, *here, "the file is too large once its aliases are followed", "write the values out")
    # What is not there has no place: the reader gives that of the next thing in the file.
    there = isinstance(node, ScalarNode) and not _is_nothing(node)
    source.positions[key] = here if there or key_position is None else key_position
    match node:
        case ScalarNode():
            return _scalar(source, node, key)
        case SequenceNode():
            return [_value(source, item, (*key, index), None) for index, item in enumerate(node.value)]
        case MappingNode():
            return dict(_items(source, node, key))
        case _:
            raise _refused(source, *here, "not YAML that a network file can have", "")


def _is_nothing(node: ScalarNode) -> bool:
    return node.value == "" and node.style is None


def _items(source: Source, node: MappingNode, key: Key) -> Iterator[tuple[str, object]]:
    seen: dict[str, int] = {}
    for key_node, value_node in node.value:
        line, column = key_node.start_mark.line + 1, key_node.start_mark.column + 1
        if not isinstance(key_node, ScalarNode):
            raise _refused(source, line, column, "a mapping or a list cannot be a key", "write a word")
        word = key_node.value
        if word == "<<" and key_node.style is None:
            raise _refused(source, line, column, "merge keys (<<) are not read", "write the keys out")
        here = (*key, word)
        if word in seen:
            fix = f"remove one of them; the other is on line {seen[word]}"
            source.positions[(*here, line)] = (line, column)
            source.problems.append(Problem((*here, line), f"{word} is here twice", fix))
            continue
        seen[word] = line
        source.key_positions[here] = (line, column)
        yield word, _value(source, value_node, here, (line, column))


def _scalar(source: Source, node: ScalarNode, key: Key) -> object:
    text = str(node.value)
    tag = str(node.tag) if node.tag is not None else ""
    if tag and tag.removeprefix("tag:yaml.org,2002:") not in _TAGS:
        source.problems.append(Problem(key, f"the tag {_one_line(tag)} is not read", "remove it"))
        return text
    if node.style is not None or tag.endswith(":str"):
        return text
    if text in _NULL:
        word = key[-1] if key else "the file"
        source.problems.append(Problem(key, f"{word} has no value", "write one ({} for a section), or remove the line"))
        return None
    if text in _BOOLS:
        return _BOOLS[text]
    if _INT.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
