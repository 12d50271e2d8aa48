"""A round of probes: every target is asked, some times over if the file says so, and the round is good or bad."""

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Target:
    """Who is asked: by ICMP echo, or by a TCP connection to `port`."""

    address: Address
    port: int | None = None

    def __str__(self) -> str:
        if self.port is None:
            return str(self.address)
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Rule:
    """A target is good with `answers` of at most `attempts`, one after the other; the round with `required` of them."""

    required: int
    attempts: int = 1
    answers: int = 1


@dataclass(slots=True)
class Round:
    """`verdict` is None until enough is known, which may be before all have answered."""

    targets: int
    rule: Rule
    sent_at: float
    verdict: bool | None = None
    _asked: list[int] = field(default_factory=list)
    _answered: list[int] = field(default_factory=list)
    _good: set[int] = field(default_factory=set)
    _bad: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._asked = [1] * self.targets
        self._answered = [0] * self.targets

    @property
    def is_unheard(self) -> bool:
        return not any(self._answered)

    def answered(self, target: int) -> bool:
        """Whether the target is to be asked again."""
        self._answered[target] += 1
        if self._answered[target] >= self.rule.answers:
            self._good.add(target)
        return self._go_on(target)

    def missed(self, target: int) -> bool:
        """Likewise: no answer in time."""
        return self._go_on(target)

    def _go_on(self, target: int) -> bool:
        if target not in self._good and self._asked[target] >= self.rule.attempts:
            self._bad.add(target)
        if len(self._good) >= self.rule.required:
            self.verdict = True
        elif self.targets - len(self._bad) < self.rule.required:
            self.verdict = False
        if self.verdict is not None or target in self._good or target in self._bad:
            return False
        self._asked[target] += 1
        return True
