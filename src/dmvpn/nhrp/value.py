"""Values: records that nobody changes, as the type checker sees to it.

To a dataclass that is frozen at run time too, each field costs a call of object.__setattr__: a seventh of all that a
new registration costs a hub, since a packet and its entries have many fields and live for a moment.
"""

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(of: type[T]) -> type[T]:
    """Class decorator: slots, equal and hashed by all fields."""
    return dataclass(slots=True, unsafe_hash=True)(of)
