"""What a step of a scenario expects: conditions on values, and ways into JSON. Pure."""

import re
from typing import Any

from pydantic import Field

from dmvpn.network.values import Section

Value = str | int | float | bool | None


class Condition(Section):
    """Every word that is given must hold. A bare value in the file stands for `is`."""

    is_: Value = None
    """Equal to this."""
    is_not: Value = None
    """Different from this."""
    above: float | None = None
    """A number greater than this."""
    below: float | None = None
    """A number less than this."""
    matches: str | None = Field(default=None, max_length=500)
    """Text in which this regular expression is found."""
    count: int | None = None
    """A list with this many members."""
    every: Value = None
    """A list, not empty, whose members are all equal to this."""

    def refusals(self, value: Any) -> list[str]:
        """Why `value` does not do; empty when it does."""
        said = shown(value)
        found: list[str] = []
        given = self.model_fields_set
        if "is_" in given and value != self.is_:
            found.append(f"{said} is not {shown(self.is_)}")
        if "is_not" in given and value == self.is_not:
            found.append(f"is {said}")
        if self.above is not None and not (_number(value) and value > self.above):
            found.append(f"{said} is not above {self.above:g}")
        if self.below is not None and not (_number(value) and value < self.below):
            found.append(f"{said} is not below {self.below:g}")
        if self.matches is not None and re.search(self.matches, str(value)) is None:
            found.append(f"{said} does not match {self.matches}")
        return found + self._list_refusals(value)

    def _list_refusals(self, value: Any) -> list[str]:
        found: list[str] = []
        if self.count is not None and not (isinstance(value, list) and len(value) == self.count):
            length = len(value) if isinstance(value, list) else "no list of"
            found.append(f"has {length} members, not {self.count}")
        if "every" in self.model_fields_set:
            members = value if isinstance(value, list) else []
            odd = [member for member in members if member != self.every]
            if odd or not members:
                found.append(f"{shown(odd[0]) if odd else 'nothing'} is not {shown(self.every)}")
        return found


Expected = Condition | Value


def refusals(expected: Expected, value: Any) -> list[str]:
    """Why `value` is not what is expected."""
    condition = expected if isinstance(expected, Condition) else Condition.model_validate({"is": expected})
    return condition.refusals(value)


def follow(document: Any, path: str) -> Any:
    """The value at a dotted path: keys, list indexes, `*` for every member of a list or mapping. None where it ends."""
    here = document
    words = path.split(".") if path else []
    for position, word in enumerate(words):
        if word == "*":
            members = list(here.values()) if isinstance(here, dict) else here if isinstance(here, list) else []
            rest = ".".join(words[position + 1 :])
            return [follow(member, rest) for member in members]
        if isinstance(here, dict):
            here = here.get(word)
        elif isinstance(here, list) and re.fullmatch(r"-?\d{1,6}", word) and -len(here) <= int(word) < len(here):
            here = here[int(word)]
        else:
            return None
    return here


def shown(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
