"""docs/network-file.md, from the models: every section, its keys, what they may be, and what they mean."""

import types
from collections.abc import Iterator
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from dmvpn.network.model import Network
from dmvpn.network.values import OneOrMany, Parsed, Quantity, Spelling, TrueForDefaults

HEAD = """\
# The network file

One file describes the whole network; every router takes its part of it. This page is made from the models: it is what
`dmvpn check` accepts. `dmvpn schema` prints the same for editors.

- Keys are written as here. A key nobody knows is a problem, and so is one without a value.
- Where a list of words or numbers stands, a single one may stand for a list of one.
- Times take ms, s, m, h or d (bare: seconds), rates k, M or G (bare: bit/s), shares %.
- Secrets are never in the file: `{file: PATH}` names a file of its own.
- What follows from the rest is not in the file: device names, MTU, tables, marks, openings, filters.
- A router's transport address, unless it is given, is the transport range with the last bits of its first tunnel
  address. The order of tunnels, uplinks and `over` counts: add new ones at the end.
- A machine may be a router of several networks, each with a file of its own: commands take `--network`. They may share
  uplinks and LANs; `ports`, `transport`, overlays and `prefixes` differ, and the `gre-key`s if one of them is on the
  kernel plane; where both share gateways of one LAN by VRRP, the groups and addresses. Only one of them can be on the
  kernel plane, only one can have BFD, and only one several uplinks: the others have the first of those. `apply` names
  what meets.
- A network is on its `port`, else the router's `lan-port`, else the router's only bond; with a `vlan` on PORT.VLAN.
"""


def reference() -> str:
    """The page, as Markdown."""
    parts = [HEAD]
    for name, model in _sections():
        parts.append(
            f"\n## {name}\n\n{_prose(model.__doc__)}\n\n| key | value | without it | meaning |\n|---|---|---|---|\n"
        )
        parts += [_row(field.alias or key, field) for key, field in model.model_fields.items()]
    return "".join(parts)


def _sections() -> Iterator[tuple[str, type[BaseModel]]]:
    """Every model once, in the order a reader of the file meets them, with the path that leads there first."""
    todo: list[tuple[str, type[BaseModel]]] = [("The top of the file", Network)]
    seen: set[type[BaseModel]] = {Network}
    while todo:
        path, model = todo.pop(0)
        yield path, model
        prefix = "" if model is Network else f"{path}."
        for key, field in model.model_fields.items():
            for suffix, below in _models(field.annotation):
                if below not in seen:
                    seen.add(below)
                    todo.append((f"{prefix}{field.alias or key}{suffix}", below))


def _models(kind: Any) -> Iterator[tuple[str, type[BaseModel]]]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield "", kind
    elif get_origin(kind) is dict:
        yield from ((f".NAME{suffix}", model) for suffix, model in _models(get_args(kind)[1]))
    elif get_origin(kind) is tuple:
        yield from ((f"[]{suffix}", model) for suffix, model in _models(get_args(kind)[0]))
    elif get_origin(kind) in (Annotated, Union, types.UnionType):
        for argument in get_args(kind):
            yield from _models(argument)


def _row(key: str, field: FieldInfo) -> str:
    kind = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    return f"| `{key}` | {_kind(kind)} | {_default(field)} | {_prose(field.description)} |\n"


def _kind(kind: Any) -> str:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        for word in kind.__metadata__:
            if isinstance(word, Spelling | Parsed | Quantity):
                return f"{word.what}, such as `{word.example}`"
        many = any(isinstance(word, OneOrMany) for word in kind.__metadata__)
        switch = any(isinstance(word, TrueForDefaults) for word in kind.__metadata__)
        return ("`true`, or " if switch else "") + _kind(arguments[0]) + (", or one alone" if many else "")
    if origin in (Union, types.UnionType):
        return _kind(next(argument for argument in arguments if argument is not type(None)))
    if origin is dict:
        return f"mapping of NAME to {_kind(arguments[1])}"
    if origin is tuple:
        return f"list of: {_kind(arguments[0])}"
    if origin is Literal:
        return ", ".join(f"`{word}`" for word in arguments)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return ", ".join(f"`{member.value}`" for member in kind)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return f"section ({_prose(kind.__doc__).rstrip('.')})"
    return "`true` or `false`" if kind is bool else str(kind)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**needed**"
    value = field.get_default(call_default_factory=True) if field.default is PydanticUndefined else field.default
    if isinstance(value, BaseModel) or value is None or value in ((), {}):
        return ""
    if isinstance(value, dict):
        return f"`{{{', '.join(f'{key}: {{}}' for key in value)}}}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(str(item) for item in value)}]`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value.value if isinstance(value, Enum) else value}`"


def _prose(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")
