"""What a doctor says: one finding a check, by layer from the bottom up. A layer that fails explains those above it."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Layer(StrEnum):
    """In the order in which they are looked at; each needs those before it."""

    SYSTEM = "SYSTEM"
    UNDERLAY = "UNDERLAY"
    TUNNEL = "TUNNEL"
    IKE = "IKE"
    NHRP = "NHRP"
    ROUTE = "ROUTE"
    MTU = "MTU"
    STATE = "STATE"


class Outcome(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    NOT_LOOKED_AT = "not looked at"


@dataclass(frozen=True, slots=True)
class Finding:
    """`check` is what was looked at, `what` how it is, `fix` what to do, empty when there is nothing to do."""

    layer: Layer
    check: str
    outcome: Outcome
    what: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The whole in one: the layer where it begins to fail, and what was found there."""

    outcome: Outcome
    first: Finding | None


def verdict(findings: Iterable[Finding]) -> Verdict:
    """The first failure; without one the first warning, then the first thing that could not be looked at."""
    found = tuple(findings)
    for outcome in (Outcome.FAILED, Outcome.WARNING, Outcome.NOT_LOOKED_AT):
        first = next((one for layer in Layer for one in found if one.layer is layer and one.outcome is outcome), None)
        if first is not None:
            return Verdict(outcome, first)
    return Verdict(Outcome.OK, None)


@dataclass(frozen=True, slots=True)
class At:
    """Findings of one layer, in fewer words."""

    layer: Layer

    def ok(self, check: str, what: str) -> Finding:
        return Finding(self.layer, check, Outcome.OK, what)

    def warning(self, check: str, what: str, fix: str) -> Finding:
        return Finding(self.layer, check, Outcome.WARNING, what, fix)

    def failed(self, check: str, what: str, fix: str) -> Finding:
        return Finding(self.layer, check, Outcome.FAILED, what, fix)

    def not_looked_at(self, check: str, why: str, fix: str = "") -> Finding:
        return Finding(self.layer, check, Outcome.NOT_LOOKED_AT, why, fix)
