"""Dataclasses as JSON values: what the control sockets carry, and reading it back from whoever sent it."""

import json
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import PurePath
from typing import Any

from dmvpn.errors import Fault

PLAIN = (str, int, float, bool, type(None))


def to_wire(value: Any) -> Any:
    """Dataclasses, tuples, dicts, enums, addresses and paths as what json.dumps takes. Raises TypeError."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    if isinstance(value, (IPv4Address, IPv6Address, IPv4Network, IPv6Network, PurePath)):
        return str(value)
    if is_dataclass(value):
        return {field.name: to_wire(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {str(key): to_wire(one) for key, one in value.items()}
    if isinstance(value, (tuple, list, set, frozenset)):
        return [to_wire(one) for one in value]
    raise TypeError(f"{type(value).__name__} has no form on the wire")


def from_line(where: str, line: bytes) -> dict[str, Any]:
    """One line as the JSON object that it must be. Raises Fault: what comes over a socket is input."""
    try:
        value = json.loads(line)
    # RecursionError: brackets in brackets; UnicodeDecodeError is a ValueError, as JSONDecodeError is.
    except (ValueError, RecursionError) as error:
        raise Fault(where, "said something that is not JSON") from error
    if not isinstance(value, dict):
        raise Fault(where, "said something that is no JSON object")
    return value


def answer_in(where: str, line: bytes) -> Any:
    """The answer that a reply carries. Raises Fault for a refusal, in its words, and for anything else."""
    reply = from_line(where, line)
    if reply.get("ok") is True and "answer" in reply:
        return reply["answer"]
    refusal = reply.get("error")
    if reply.get("ok") is not False or not isinstance(refusal, dict):
        raise Fault(where, "refused to answer")
    words = [str(refusal.get(key, ""))[:500] for key in ("where", "what", "fix")]
    raise Fault(words[0] or where, words[1] or "refused", words[2])
