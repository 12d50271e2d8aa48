"""YAML policies: the part of YAML 1.2 that says what JSON can say, with the place of every value."""

import re

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, DocumentStartEvent
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode
from ruamel.yaml.nodes import Node as YamlNode

from dmvpn.firewall.awall.document import DEEPEST, MOST_NODES, Member, Node, Place, Plain, Report, Unreadable, quoted

MOST_ALIASES = 256

_INT = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_NULL = ("", "~", "null", "Null", "NULL")
_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
# YAML 1.1, which awall's reader follows, takes these for true and false; YAML 1.2 for words.
_AMBIGUOUS = re.compile(r"y|n|yes|no|on|off", re.IGNORECASE)


def read(text: str, file: str, report: Report) -> Node | None:
    """The file's value. None when it cannot be read; the report says where and why."""
    try:
        _bound(text, file, report)
        root = YAML(typ="safe", pure=True).compose(text)
        if root is None:
            report.wrong(Place(file, 1, 1), "the file is empty", "write {} for a policy that says nothing")
            return None
        return _Composer(file, report).node(root, 0)
    except MarkedYAMLError as trouble:
        mark = trouble.problem_mark or trouble.context_mark
        place = Place(file, mark.line + 1, mark.column + 1) if mark is not None else Place(file, 1, 1)
        what = " ".join(str(part) for part in (trouble.context, trouble.problem) if part)
        report.wrong(
            place, f"not YAML: {_one_line(what)}", "look at the quotes, colons and indentation here and before"
        )
    except (YAMLError, ValueError, RecursionError) as trouble:
        report.wrong(Place(file, 1, 1), f"not YAML: {_one_line(str(trouble))}")
    except Unreadable:
        pass
    return None


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()[:200]


def _bound(text: str, file: str, report: Report) -> None:
    """Walk the events, which needs no recursion, before anything recursive sees the text."""
    depth = aliases = documents = 0
    for event in YAML(typ="safe", pure=True).parse(text):
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        aliases += isinstance(event, AliasEvent)
        documents += isinstance(event, DocumentStartEvent)
        mark = event.start_mark
        place = Place(file, mark.line + 1, mark.column + 1) if mark is not None else Place(file, 1, 1)
        if depth > DEEPEST:
            report.wrong(place, f"more than {DEEPEST} levels deep", "a policy needs six")
        elif aliases > MOST_ALIASES:
            report.wrong(place, f"more than {MOST_ALIASES} aliases", "write the values out")
        elif documents > 1:
            report.wrong(place, "a second document begins here", "keep one policy in a file")
        else:
            continue
        raise Unreadable


class _Composer:
    def __init__(self, file: str, report: Report) -> None:
        self.file = file
        self.report = report
        self.nodes = 0

    def node(self, node: YamlNode, depth: int, key: Place | None = None) -> Node:
        """`key`: where its name is, if it has one: a value that is not there has no place of its own."""
        place = Place(self.file, node.start_mark.line + 1, node.start_mark.column + 1)
        if key is not None and isinstance(node, ScalarNode) and node.value == "" and node.style is None:
            place = key
        self.nodes += 1
        if self.nodes > MOST_NODES or depth > DEEPEST:
            self.report.wrong(place, "the file is too large once its aliases are followed", "write the values out")
            raise Unreadable
        match node:
            case ScalarNode():
                return Node(place, self._scalar(node, place))
            case SequenceNode():
                return Node(place, tuple(self.node(item, depth + 1) for item in node.value))
            case MappingNode():
                return Node(place, self._members(node, depth))
        self.report.wrong(place, "not YAML that a policy can have")
        raise Unreadable

    def _members(self, node: MappingNode, depth: int) -> dict[str, Member]:
        members: dict[str, Member] = {}
        for key, value in node.value:
            place = Place(self.file, key.start_mark.line + 1, key.start_mark.column + 1)
            if not isinstance(key, ScalarNode):
                self.report.wrong(place, "a mapping or a list cannot be a name", "write a word")
                raise Unreadable
            name = str(key.value)
            if name == "<<" and key.style is None:
                self.report.wrong(place, "merge keys (<<) are not read", "write the members out")
                continue
            if name in members:
                fix = f"remove one of them; the other is on line {members[name].at.line}"
                self.report.wrong(place, f"{quoted(name)} is here twice", fix)
            members[name] = Member(place, self.node(value, depth + 1, place))
        return members

    def _scalar(self, node: ScalarNode, place: Place) -> Plain:
        text = str(node.value)
        tag = str(node.tag or "").removeprefix("tag:yaml.org,2002:")
        if tag not in ("", "str", "int", "float", "bool", "null", "timestamp", "value"):
            self.report.wrong(place, f"the tag {quoted(tag)} is not read", "remove it")
        if node.style is not None:
            return text
        if tag == "str":
            if _AMBIGUOUS.fullmatch(text):
                self.report.wrong(
                    place, f"{text} is a word or a truth value", "write true or false, or put it in quotes"
                )
            return text
        if text in _NULL:
            return None
        if text in _BOOLS:
            return _BOOLS[text]
        if _INT.fullmatch(text):
            return int(text)
        return float(text) if _FLOAT.fullmatch(text) else text
