"""Plain values as the text of a network file: sections as blocks, what is short on one line.

`source.read` reads it back. Strings that YAML would take for something else are quoted.
"""

import re
from collections.abc import Iterator, Mapping

WIDEST_COLUMNS = 110
_STEP = 2
# What no reader takes for anything but a string, in a block and between braces; a colon is quoted wherever it stands.
_PLAIN = re.compile(r"(?=.*[A-Za-z./])(?![-+.]?\d*\.?\d*(?:[eE][-+]?\d+)?$)[A-Za-z0-9./_][A-Za-z0-9./_@+-]*")
_HIDDEN = re.compile(r"[\"\\]|[^ -~\xa0-\ud7ff\ue000-\ufefe\uff01-\ufffd\U00010000-\U0010ffff]|[\u2028\u2029]")
_WORDS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}

Comments = Mapping[tuple[str, ...], str]
"""Lines above a key or after it, by the key's path."""


def text_of(values: Mapping[str, object], *, above: Comments = {}, beside: Comments = {}) -> str:  # noqa: B006 - read only
    """A whole file. `above` are comments on lines of their own, before an empty line; `beside` stand behind a value."""
    return "\n".join(_mapping(values, (), above, beside)) + "\n"


def block(values: Mapping[str, object], indent: int, *, beside: Comments = {}) -> list[str]:  # noqa: B006 - read only
    """A part of a file, each line indented by so many columns."""
    return [" " * indent + line if line else line for line in _mapping(values, (), {}, beside)]


def _mapping(values: Mapping[str, object], path: tuple[str, ...], above: Comments, beside: Comments) -> Iterator[str]:
    for key, value in values.items():
        here = (*path, key)
        yield from _above(here, above)
        remark = f" # {beside[here]}" if here in beside else ""
        line = f"{scalar(key)}: {flow(value)}"
        inner = any(known[: len(here)] == here and known != here for known in (*above, *beside))
        if not isinstance(value, dict) or not value or (_fits(here, line, value) and not inner):
            yield line + remark
            continue
        yield f"{scalar(key)}:{remark}"
        yield from (" " * _STEP + below if below else below for below in _mapping(value, here, above, beside))


def _above(here: tuple[str, ...], above: Comments) -> Iterator[str]:
    if here in above:
        yield ""
        yield from (f"# {line}".rstrip() for line in above[here].splitlines())


def _fits(path: tuple[str, ...], line: str, value: Mapping[str, object]) -> bool:
    """Whether a mapping reads well on one line: short, and not the file's own skeleton."""
    depth = _depth(value)
    skeleton = path[0] == "sites" and (len(path) < 3 or (len(path) == 3 and path[2] == "routers"))
    return not skeleton and depth <= 3 and len(line) + _STEP * (len(path) - 1) <= WIDEST_COLUMNS


def _depth(value: object) -> int:
    match value:
        case dict():
            return 1 + max((_depth(below) for below in value.values()), default=0)
        case list() | tuple():
            return max((_depth(below) for below in value), default=0)
        case _:
            return 0


def flow(value: object) -> str:
    """A value on one line."""
    match value:
        case dict():
            return f"{{{', '.join(f'{scalar(key)}: {flow(below)}' for key, below in value.items())}}}"
        case list() | tuple():
            return f"[{', '.join(flow(below) for below in value)}]"
        case _:
            return scalar(value)


def scalar(value: object) -> str:
    """A word, a number or a quoted string."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    text = str(value)
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    return '"' + _HIDDEN.sub(_escaped, text) + '"'


def _escaped(found: re.Match[str]) -> str:
    char = found[0]
    return f"\\{char}" if char in '"\\' else f"\\u{ord(char):04x}"
