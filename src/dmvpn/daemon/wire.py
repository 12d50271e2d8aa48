"""Dataclasses as JSON values: what the control sockets carry."""

from dataclasses import fields, is_dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

PLAIN = (str, int, float, bool, type(None))


def to_wire(value: Any) -> Any:
    """A value made of dataclasses, tuples, dicts, enums and addresses as what json.dumps takes. Raises TypeError."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, (IPv4Address, IPv6Address, IPv4Network, IPv6Network)):
        return str(value)
    if is_dataclass(value):
        return {field.name: to_wire(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {str(key): to_wire(one) for key, one in value.items()}
    if isinstance(value, (tuple, list, set, frozenset)):
        return [to_wire(one) for one in value]
    raise TypeError(f"{type(value).__name__} has no form on the wire")
