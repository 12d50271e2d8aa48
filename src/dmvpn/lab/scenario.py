"""A scenario file: a story in steps, each of which does one thing, measures, expects. All that is wrong comes at once.

A scenario runs programs as root inside the lab, so a scenario file is code.
"""

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from dmvpn.errors import Finding, Problems
from dmvpn.lab.expectation import Expected
from dmvpn.linux import files
from dmvpn.network import source
from dmvpn.network.values import LinkName, Name, Seconds, Section

Prose = Annotated[str, Field(max_length=500)]
NodeName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,64}$")]
FileInNode = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,64}:/[A-Za-z0-9._/-]{1,200}$")]
Argv = Annotated[tuple[str, ...], Field(min_length=1, max_length=64)]
Pair = tuple[NodeName, NodeName]
Regex = Annotated[str, Field(max_length=500)]


class Level(StrEnum):
    ERROR = "error"
    WARNING = "warning"


class Way(StrEnum):
    """How a stream's packets travel, by TTL."""

    DIRECT = "direct"
    RELAYED = "relayed"


class Execute(Section):
    """Runs a program inside a node, again and again until it answers as expected or `within` is over."""

    on: NodeName
    argv: Argv
    within: Seconds = 0.0
    limit: Seconds = 20.0
    status: int | None = 0
    matches: Regex | None = None
    json_: dict[str, Expected] = Field(default_factory=dict)
    """Conditions on its JSON output, by dotted path; * stands for every member."""
    keep: dict[Name, str] = Field(default_factory=dict)
    """Figures to keep: a dotted path into its JSON output."""


class Background(Section):
    """Starts a program inside a node and leaves it running; the step needs an id for `stop`."""

    on: NodeName
    argv: Argv


class Carry(Section):
    """Carries a file from one node to another, as on a stick: NODE:/PATH; there it is its owner's alone."""

    from_: FileInNode
    to: FileInNode


class Stop(Section):
    """Ends a background program."""

    what: Name


class Impair(Section):
    """Merges impairments into a link: delay=25ms jitter=2ms loss=1% rate=50M down up."""

    link: LinkName
    set_: Annotated[tuple[str, ...], Field(min_length=1, max_length=8)]
    direction: Literal["both", "up", "down"] = "both"


class Cut(Section):
    """The WAN carries nothing between two routers; each still reaches all others."""

    path: Pair


class Heal(Section):
    """Puts a link, a cut path, or with neither everything back to what the network file says."""

    link: LinkName | None = None
    path: Pair | None = None


class Renumber(Section):
    """The ISP of an uplink with dhcp: true or pppoe gives it its next address."""

    link: LinkName


class Restart(Section):
    """Restarts one unit of a router, or with `kill` ends its process the hard way."""

    on: NodeName
    unit: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,40}$")]
    how: Literal["restart", "reload", "kill"] = "restart"


class Cables(Section):
    """All cables of a router are pulled out, as when its power goes; or put in again, with what the kernel forgot."""

    of: NodeName
    are: Literal["out", "in"]


class StartCapture(Section):
    """Captures in a node from here on; the step needs an id for `count`."""

    on: NodeName
    device: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.~-]{1,15}$")] = "any"


class CountCapture(Section):
    """Ends a capture; the figures are packets by kind: total, esp_in_udp, ike, gre_in_clear, ..."""

    capture: Name


class StartStream(Section):
    """Numbered packets from one host to another from here on; the step needs an id."""

    from_: NodeName
    to: NodeName
    every: Seconds = 0.01
    octets: Annotated[int, Field(ge=16, le=9000)] = 100


class UntilStream(Section):
    """Waits until `packets` in a row went this way; the figures are about all packets since the last step of it."""

    stream: Name
    way: Way
    packets: Annotated[int, Field(ge=1, le=10000)] = 10
    within: Seconds = 20.0


class WatchStream(Section):
    """Watches for a time; the figures are about all packets since the last step of this stream."""

    stream: Name
    for_: Seconds


class EndStream(Section):
    """Ends a stream; the figures are about all of it."""

    stream: Name


class MeasureThroughput(Section):
    """One TCP connection between two hosts: mbit_per_s, retransmits."""

    from_: NodeName
    to: NodeName
    seconds: Annotated[float, Field(ge=1, le=3600)] = 5.0


class Wait(Section):
    """Lets time pass."""

    seconds: Annotated[float, Field(gt=0, le=3600)]


Watching = StartCapture | CountCapture | StartStream | UntilStream | WatchStream | EndStream
Changing = Impair | Cut | Heal | Cables | Renumber | Restart
Action = Execute | Background | Carry | Stop | Changing | MeasureThroughput | Wait | Watching


class Step(Section):
    """One step: exactly one action, what its figures must be, and what to tell."""

    name: Prose
    id: Name | None = None
    """Under this name later steps find what it started, and its figures."""
    level: Level = Level.ERROR
    """warning: the story goes on when this step fails."""
    expect: dict[str, Expected] = Field(default_factory=dict)
    """Conditions on this step's figures."""
    tell: Prose | None = None
    """Told when it is done: {rtt_ms:.1f} is a figure of this step, {hub.rtt_ms:.1f} one of the step with id hub."""
    row: Prose | None = None
    """A row of the report's table, with figures as in `tell`; cells are parted by |."""
    run: Execute | None = None
    background: Background | None = None
    carry: Carry | None = None
    stop: Stop | None = None
    impair: Impair | None = None
    cut: Cut | None = None
    heal: Heal | None = None
    renumber: Renumber | None = None
    restart: Restart | None = None
    cables: Cables | None = None
    capture: StartCapture | None = None
    count: CountCapture | None = None
    stream: StartStream | None = None
    until: UntilStream | None = None
    watch: WatchStream | None = None
    end: EndStream | None = None
    throughput: MeasureThroughput | None = None
    wait: Wait | None = None

    @property
    def action(self) -> Action:
        given: list[Action] = [value for name in ACTIONS if (value := getattr(self, name)) is not None]
        return given[0]

    @model_validator(mode="after")
    def _one_action(self) -> "Step":
        given = [name for name in ACTIONS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"a step has exactly one action, this one has {', '.join(given) or 'none'}")
        if isinstance(self.action, Background | StartCapture | StartStream) and self.id is None:
            raise ValueError(f"a {given[0]} needs an id, so that a later step can name it")
        return self


ACTIONS = tuple(name for name in Step.model_fields if name not in ("name", "id", "level", "expect", "tell", "row"))


class Scenario(Section):
    """The whole story."""

    version: Literal[1]
    name: Prose
    network: Prose | None = None
    """The network file it is about, relative to this one."""
    opening: tuple[Prose, ...] = ()
    """Told before the lab starts: what the story is about."""
    columns: Prose | None = None
    """The head of the report's table, its cells parted by |."""
    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=500)]
    closing: tuple[Prose, ...] = ()
    """Told at the end when all went well: what to try next."""

    @model_validator(mode="after")
    def _known_ids(self) -> "Scenario":
        seen: set[str] = set()
        for number, step in enumerate(self.steps, start=1):
            match step.action:
                case Stop(what=wanted) | CountCapture(capture=wanted) | UntilStream(stream=wanted):
                    _require(number, wanted, seen)
                case WatchStream(stream=wanted) | EndStream(stream=wanted):
                    _require(number, wanted, seen)
                case _:
                    pass
            if step.id in seen:
                raise ValueError(f"step {number}: the id {step.id} is taken")
            seen |= {step.id} if step.id is not None else set()
        return self


def _require(number: int, wanted: str, seen: set[str]) -> None:
    if wanted not in seen:
        raise ValueError(f"step {number}: no step before it has the id {wanted}")


def load(path: Path) -> Scenario:
    """Raises Problems with every finding, Fault for a file that cannot be read."""
    text = files.read_text(path)
    read = source.read(text, str(path))
    findings = [read.finding(problem) for problem in read.problems]
    scenario = None
    try:
        scenario = Scenario.model_validate(read.values)
    except ValidationError as refusal:
        errors = refusal.errors()
        findings += [_finding(read, details) for details in errors if not _follows(details, errors)]
    if findings or scenario is None:
        raise Problems(findings)
    return scenario


def network_path(scenario: Scenario, path: Path) -> Path | None:
    """The network file that the scenario names."""
    return None if scenario.network is None else (path.parent / scenario.network).resolve()


def _follows(details: ErrorDetails, errors: list[ErrorDetails]) -> bool:
    """pydantic also calls a list too short whose members it has refused: that says nothing new."""
    place = details["loc"]
    deeper = (other["loc"] for other in errors if len(other["loc"]) > len(place))
    return details["type"] == "too_short" and any(loc[: len(place)] == place for loc in deeper)


def _finding(read: source.Source, details: ErrorDetails) -> Finding:
    # Where a value may be of several types, pydantic names each try: those parts are no keys of the file.
    key: source.Key = ()
    for part in details["loc"]:
        key = (*key, part) if (*key, part) in read.positions or not _is_type(part) else key
    context = details.get("ctx", {})
    if {"what", "fix"} <= context.keys():
        return Finding(read.where(key), str(context["what"]), str(context["fix"]), warning=False)
    what = details["msg"].removeprefix("Value error, ")
    if details["type"] == "extra_forbidden":
        return Finding(read.where_key(key), f"{key[-1]} is no word of a scenario", _words(key), warning=False)
    if details["type"] == "missing":
        return Finding(read.where(key[:-1]), f"{key[-1]} is missing", "add it", warning=False)
    return Finding(read.where(key), what[:1].lower() + what[1:], "", warning=False)


def _is_type(part: Any) -> bool:
    return isinstance(part, str) and re.fullmatch(r"[A-Z]\w+|str|int|float|bool|none|constrained-\w+", part) is not None


def _words(key: source.Key) -> str:
    model: type[Section] = Step if len(key) == 3 and key[0] == "steps" else Scenario
    words = ", ".join(sorted(name.rstrip("_") for name in model.model_fields))
    return f"its words are {words}" if len(key) in (1, 3) else "remove it"
