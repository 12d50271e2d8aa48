"""One JSON object of network.json with the place it came from, and the words its values may be."""

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from dmvpn.errors import WrongInput

T = TypeVar("T")

_DEVICE = re.compile(r"[A-Za-z0-9_.@:-]{1,15}")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_SYSCTL_VALUE = re.compile(r"[0-9A-Za-z_. \t-]{1,100}")
UNSIGNED_32 = (1 << 32) - 1


class Row:
    """One JSON object with the place it came from. Every key must have been asked for in the end."""

    def __init__(self, file: str, place: str, value: object) -> None:
        if not isinstance(value, dict):
            raise WrongInput(file, f"{place}: must be an object")
        self._file = file
        self._place = place
        self.left: dict[str, Any] = dict(value)

    def fault(self, key: str, what: str) -> WrongInput:
        return WrongInput(self._file, f"{self._place}.{key}: {what}" if self._place else f"{key}: {what}")

    def take(self, key: str, kind: type[T]) -> T:
        if key not in self.left:
            raise self.fault(key, "is missing")
        value = self.left.pop(key)
        if type(value) is not kind:
            raise self.fault(key, f"must be a {_KIND_WORDS[kind]}")
        return value

    def maybe(self, key: str, kind: type[T], otherwise: T) -> T:
        return self.take(key, kind) if key in self.left else otherwise

    def parse(self, key: str, parser: Callable[[str], T]) -> T:
        text = self.take(key, str)
        try:
            return parser(text)
        except ValueError as error:
            raise self.fault(key, str(error)) from error

    def maybe_parse(self, key: str, parser: Callable[[str], T]) -> T | None:
        return self.parse(key, parser) if key in self.left else None

    def number(self, key: str, lowest: int, highest: int, otherwise: int | None = None) -> int:
        value = self.take(key, int) if otherwise is None else self.maybe(key, int, otherwise)
        if not lowest <= value <= highest:
            raise self.fault(key, f"{value} is not in {lowest}..{highest}")
        return value

    def maybe_number(self, key: str, lowest: int, highest: int) -> int | None:
        """None for a missing key and for null."""
        if self.left.get(key) is None:
            self.left.pop(key, None)
            return None
        return self.number(key, lowest, highest)

    def rows(self, key: str) -> list["Row"]:
        found = self.maybe(key, list, [])
        return [Row(self._file, f"{key}[{at}]", value) for at, value in enumerate(found)]

    def end(self) -> None:
        for key in self.left:
            raise self.fault(key, "is not known")


_KIND_WORDS: Mapping[type, str] = {str: "string", int: "number", bool: "boolean", list: "list", dict: "object"}


def sysctl_value(text: str) -> str:
    return matched(_SYSCTL_VALUE, text, "a sysctl's value")


def device_name(text: str) -> str:
    return matched(_DEVICE, text, "a device name of 1 to 15 octets")


def mac_address(text: str) -> str:
    return matched(_MAC, text.lower(), "a MAC address")


def matched(pattern: re.Pattern[str], text: str, what: str) -> str:
    if not pattern.fullmatch(text):
        raise ValueError(f"{text!r} is not {what}")
    return text


def absolute(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError(f"{text!r} is not an absolute path")
    return text


def one_of(words: tuple[str, ...]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"{text!r} is not one of {', '.join(words)}")
        return text

    return parse
