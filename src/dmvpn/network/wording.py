"""The model's refusals in the operator's words: what is so, what to write instead, and the nearest valid word."""

import difflib
import types
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from dmvpn.errors import Problem
from dmvpn.network.model import Network
from dmvpn.network.source import Key
from dmvpn.network.values import REFUSAL, shown

LISTED_AT_MOST = 24
SECRETS = ("secret", "password")  # what stands there is never shown


@dataclass(frozen=True, slots=True)
class Repair:
    """The one change that most likely mends a problem, so that the rest of the file can still be checked."""

    key: Key
    rename: str | None = None  # the key's right spelling; None with value None: remove the key
    value: object = None


@dataclass(frozen=True, slots=True)
class Worded:
    """A problem; `at_key` when it is about the key itself, and a repair when there is an obvious one."""

    problem: Problem
    at_key: bool = False
    repair: Repair | None = None


def worded(error: ValidationError) -> Iterator[Worded]:
    """Every refusal of the model, in the file's order."""
    for details in error.errors(include_url=False):
        yield _one(details)


def _one(details: ErrorDetails) -> Worded:
    loc = tuple(part for part in details["loc"] if part != "[key]")
    context = details.get("ctx", {})
    match details["type"]:
        case "extra_forbidden":
            return _unknown_key(loc)
        case "missing":
            return Worded(Problem(loc[:-1], f"{_called(loc[:-1])} has no {loc[-1]}", f"add {loc[-1]}:"))
        case "enum" | "literal_error":
            return _unknown_word(loc, details["input"])
        case kind if kind == REFUSAL:
            at_key = "[key]" in details["loc"]
            return Worded(Problem(loc, str(context["what"]), str(context["fix"])), at_key=at_key)
        case _:
            what, fix = _plain(details)
            return Worded(Problem(loc, what, fix))


def _called(loc: Key) -> str:
    """What stands at a place, by its key; an item of a list by its number as well, as rules are called: rules[0]."""
    if not loc:
        return "the file"
    return f"{_called(loc[:-1])}[{loc[-1]}]" if isinstance(loc[-1], int) else str(loc[-1])


def _plain(details: ErrorDetails) -> tuple[str, str]:
    word = _called(details["loc"])
    value, context = details["input"], details.get("ctx", {})
    match details["type"]:
        case "model_type" if word in SECRETS:
            return f"{word} is in the file itself", f"write it to a file of its own and {word}: {{file: PATH}} here"
        case "model_type" | "model_attributes_type" | "dict_type":
            fix = f"write {word}: and its keys below it, or {{}}"
            if word == "the file":
                fix = "begin with version: 1"
            elif word.endswith("]"):
                fix = "write { } and its keys in between, or its keys below the hyphen"
            return f"{word} is {shown(value)} where a mapping belongs", fix
        case "tuple_type" | "list_type":
            return f"{word} is {shown(value)} where a list belongs", "write [ ] around it"
        case "bool_parsing" | "bool_type":
            return f"{word} is {shown(value)}", "write true or false"
        case "too_short":
            return f"{word} is empty", "write at least one"
        case "too_long":
            return f"{word} has too many entries", f"use at most {context.get('max_length')}"
        case _:
            return f"{word}: {details['msg'].lower()}", "see docs/network-file.md"


def _unknown_key(loc: Key) -> Worded:
    word, known = str(loc[-1]), _keys_at(loc[:-1])
    near = nearest(word, known)
    if near:
        problem = Problem(loc, f"unknown key {shown(word)}", f"did you mean {near}?")
        return Worded(problem, at_key=True, repair=Repair(loc, rename=near))
    problem = Problem(loc, f"unknown key {shown(word)}", f"the keys here are {listed(known)}")
    return Worded(problem, at_key=True, repair=Repair(loc))


def _unknown_word(loc: Key, value: object) -> Worded:
    known = _words_at(loc)
    near = nearest(str(value), known)
    allowed = listed(known, last="or")
    if near and near == value:
        problem = Problem(loc, f"{_called(loc)} is the text {value!r}", f"write {near} without quotes")
        return Worded(problem, repair=Repair(loc, value=near))
    if near:
        problem = Problem(loc, f"{_called(loc)} is {shown(value)}", f"did you mean {near}? It can be {allowed}")
        return Worded(problem, repair=Repair(loc, value=near))
    return Worded(Problem(loc, f"{_called(loc)} is {shown(value)}", f"write {allowed}"))


def nearest(word: str, known: tuple[str, ...]) -> str:
    """The known word most like this one, or nothing. Two letters swapped in a short word still count."""
    flat = word.lower().replace("_", "-")
    if flat in known:
        return flat
    cutoff = 0.66 if len(flat) <= 4 else 0.72
    return next(iter(difflib.get_close_matches(flat, known, n=1, cutoff=cutoff)), "")


def listed(words: tuple[str, ...], last: str = "and") -> str:
    """Words as prose: a, b and c."""
    if len(words) > LISTED_AT_MOST:
        words = (*words[:LISTED_AT_MOST], "...")
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}" if words else "none"


def _keys_at(loc: Key) -> tuple[str, ...]:
    kind = _type_at(loc)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return tuple(field.alias or name for name, field in kind.model_fields.items())
    return ()


def _words_at(loc: Key) -> tuple[str, ...]:
    kind = _type_at(loc)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return tuple(str(member.value) for member in kind)
    return tuple(str(word) for word in get_args(kind))


def _type_at(loc: Key) -> Any:
    """The type the model has at a place of the file."""
    kind: Any = Network
    for part in loc:
        kind = _below(kind, part)
    return kind


def _below(kind: Any, part: str | int) -> Any:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, field in kind.model_fields.items():
            if (field.alias or name) == part:
                return _bare(field.annotation)
        return None
    arguments = get_args(kind)
    if get_origin(kind) is dict:
        return _bare(arguments[1])
    return _bare(arguments[0]) if get_origin(kind) is tuple else None


def _bare(kind: Any) -> Any:
    """Without Annotated and Optional."""
    origin = get_origin(kind)
    if origin is Annotated:
        return _bare(get_args(kind)[0])
    if origin in (Union, types.UnionType):
        inside = [argument for argument in get_args(kind) if argument is not type(None)]
        return _bare(inside[0]) if len(inside) == 1 else kind
    return kind
