"""What a link does to packets: delay, jitter, loss, rate, silence. One direction each; pure data and its words."""

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Self

from dmvpn.errors import WrongInput
from dmvpn.network.lab_model import LabLink

_TIME_FACTORS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_RATE_FACTORS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
LONGEST_DELAY_S = 10.0


class Direction(StrEnum):
    """Seen from the router whose uplink the link is (from the first named router on a link of the WAN)."""

    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Impairment:
    """One direction of a link. Zero means none; `rate_bps` 0 is unlimited; `silent` drops everything, carrier stays."""

    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    rate_bps: int = 0
    silent: bool = False

    @classmethod
    def of_link(cls, link: LabLink) -> Self:
        return cls(
            delay_s=link.delay or 0.0, jitter_s=link.jitter or 0.0, loss=link.loss or 0.0, rate_bps=link.rate or 0
        )

    @classmethod
    def from_json(cls, fields: dict[str, float | int | bool]) -> Self:
        return cls(
            delay_s=float(fields["delay_s"]),
            jitter_s=float(fields["jitter_s"]),
            loss=float(fields["loss"]),
            rate_bps=int(fields["rate_bps"]),
            silent=bool(fields["silent"]),
        )

    def to_json(self) -> dict[str, float | int | bool]:
        return asdict(self)

    def merged(self, change: "Change") -> "Impairment":
        """What `change` does not name stays as it is: setting a loss must not take the delay away."""
        given = {name: value for name, value in asdict(change).items() if value is not None}
        return replace(self, **given)

    def __str__(self) -> str:
        if self.silent:
            return "down"
        words = [f"delay {_milliseconds(self.delay_s)}"] if self.delay_s else []
        words += [f"jitter {_milliseconds(self.jitter_s)}"] if self.jitter_s else []
        words += [f"loss {self.loss * 100:g}%"] if self.loss else []
        words += [f"rate {_rate(self.rate_bps)}"] if self.rate_bps else []
        return ", ".join(words) or "clean"

    def netem(self) -> tuple[str, ...]:
        """The words after `tc qdisc replace dev X root`. tc-netem(8); a jitter there also reorders, so a rate or a
        queue of its own is not needed here: the distribution's default is kept and packets may overtake."""
        if self.silent:
            return ("netem", "loss", "100%")
        words = ["netem", "limit", "10000", "delay", f"{self.delay_s * 1e6:.0f}us"]
        words += [f"{self.jitter_s * 1e6:.0f}us"] if self.jitter_s else []
        words += ["loss", f"{self.loss * 100:.6f}%"] if self.loss else []
        words += ["rate", f"{self.rate_bps}bit"] if self.rate_bps else []
        return tuple(words)


@dataclass(frozen=True, slots=True)
class Change:
    """What to set; None leaves the value that is there."""

    delay_s: float | None = None
    jitter_s: float | None = None
    loss: float | None = None
    rate_bps: int | None = None
    silent: bool | None = None

    @classmethod
    def parse(cls, words: Iterable[str]) -> Self:
        """From `delay=25ms`, `jitter=2ms`, `loss=1%`, `rate=50M`, `down`, `up`. Raises WrongInput."""
        fields: dict[str, float | int | bool] = {}
        for word in words:
            name, _, value = word.partition("=")
            match name:
                case "down" | "up" if not value:
                    fields["silent"] = name == "down"
                case "delay" | "jitter":
                    fields[f"{name}_s"] = _parsed_time(word, value)
                case "loss":
                    fields["loss"] = _parsed_share(word, value)
                case "rate":
                    fields["rate_bps"] = _parsed_rate(word, value)
                case _:
                    raise WrongInput(word, "is no impairment", "write delay=25ms jitter=2ms loss=1% rate=50M down up")
        return cls(**fields)  # type: ignore[arg-type]  # each field's type is settled by its parser above


def _parsed_time(word: str, value: str) -> float:
    found = re.fullmatch(r"(\d{1,7}(?:\.\d{1,6})?)(us|ms|s)", value)
    seconds = float(found[1]) * _TIME_FACTORS[found[2]] if found else -1.0
    if not 0 <= seconds <= LONGEST_DELAY_S:
        raise WrongInput(word, f"is not a time up to {LONGEST_DELAY_S:g} s", "write something like 25ms")
    return seconds


def _parsed_share(word: str, value: str) -> float:
    found = re.fullmatch(r"(\d{1,3}(?:\.\d{1,6})?)%", value)
    if found is None or float(found[1]) > 100:
        raise WrongInput(word, "is not a share of packets", "write something like 0.5%")
    return float(found[1]) / 100


def _parsed_rate(word: str, value: str) -> int:
    found = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?)([kMG]?)", value)
    rate = int(float(found[1]) * _RATE_FACTORS[found[2]]) if found else -1
    if rate != 0 and not 1000 <= rate <= 10**12:
        raise WrongInput(word, "is not a rate in bits per second", "write something like 50M, or 0 for no limit")
    return rate


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:g} ms"


def _rate(bps: int) -> str:
    for factor, suffix in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if bps >= factor:
            return f"{bps / factor:g}{suffix}"
    return str(bps)
