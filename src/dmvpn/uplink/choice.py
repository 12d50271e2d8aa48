"""Which uplinks carry what, by their states: pure decisions over what the watches say."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dmvpn.uplink.health import State

CARRIES = frozenset({State.ONLINE, State.DISCONNECTING})


@dataclass(frozen=True, slots=True)
class Candidate:
    """An uplink in the file's order. `ready`: its link is there. `weight` 0: it takes no part in sharing."""

    name: str
    state: State
    ready: bool
    weight: int = 0


@dataclass(frozen=True, slots=True)
class Choice:
    """`serving` in order of preference; `shared` are those, at least two, that share by weight before all others."""

    serving: tuple[str, ...]
    shared: tuple[tuple[str, int], ...]


def serving(candidates: Iterable[Candidate]) -> tuple[str, ...]:
    """Those that carry traffic. With none, whatever may work: a probe's target can be dead and the ISP alive.

    First those on their way up, then all whose link is there: no route at all would surely be worse.
    """
    every = tuple(candidates)
    for states in (CARRIES, frozenset({State.CONNECTING}), frozenset({State.OFFLINE})):
        found = tuple(one.name for one in every if one.ready and one.state in states)
        if found:
            return found
    return ()


def choose(candidates: Sequence[Candidate]) -> Choice:
    """For the default routes of one family; candidates are those that have a gateway in it."""
    names = serving(candidates)
    shared = tuple((one.name, one.weight) for one in candidates if one.weight and one.name in names)
    return Choice(names, shared if len(shared) > 1 else ())


def preferred(over: Sequence[str], candidates: Iterable[Candidate]) -> str | None:
    """The uplink that a tunnel goes over: the first of its own that serves. None: none of them has a link."""
    by_name = {one.name: one for one in candidates}
    names = serving(by_name[name] for name in over if name in by_name)
    return names[0] if names else None
