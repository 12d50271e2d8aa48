"""How an ISP link is watched: who is asked, when it counts as down, and when as up again."""

from ipaddress import ip_address
from typing import Annotated

from pydantic import Field

from dmvpn.network import plan
from dmvpn.network.values import (
    Count,
    Fraction,
    OneOrMany,
    Parsed,
    Quantity,
    Seconds,
    Section,
    Spelling,
    refusal,
)

_SOME = (("", 1.0),)


def _target(text: str) -> plan.Target:
    """ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT."""
    host, port = text, ""
    if text.startswith("["):
        host, _, port = text[1:].partition("]:")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if (host != text and not port) or (port and not port.isdecimal()):
        raise ValueError(text)
    if port and not 1 <= int(port) <= 65535:
        raise refusal(f"{port} is no port", "use 1 to 65535")
    return plan.Target(ip_address(host), int(port) if port else None)


ProbeTarget = Annotated[
    plan.Target, Parsed("an address to ask, with a port where TCP is to be used", _target, "'198.51.100.9:443'")
]
ProbeTargets = Annotated[tuple[ProbeTarget, ...], OneOrMany(), Field(max_length=16)]
Interval = Annotated[
    float,
    Quantity(
        "a time between probes",
        (("s", 1.0), ("ms", 0.001), ("m", 60.0), ("h", 3600.0)),
        0.1,
        3600,
        whole=False,
        example="1s",
    ),
]
Rounds = Annotated[int, Quantity("a number of rounds", _SOME, 1, 1000, whole=True, example="5")]
Attempts = Annotated[int, Quantity("a number of probes", _SOME, 1, 32, whole=True, example="1")]
Window = Annotated[int, Quantity("a number of probes", _SOME, 10, 1000, whole=True, example="50")]
Weight = Annotated[int, Quantity("a weight", _SOME, 1, 256, whole=True, example="2")]
Program = Annotated[
    str,
    Spelling(
        "a program by its whole path (letters, digits, . _ - and /)",
        r"(?!(?:.*/)?\.\.(?:/|$))(?:/[A-Za-z0-9._-]+)+",
        200,
        "/etc/dmvpn/hooks/uplink",
    ),
]


class ProbeTimes(Section):
    """When an ISP link counts as down, and up again. The defaults miss a dead one within three seconds."""

    interval: Interval = 1.0
    """Between two rounds; each asks all targets."""
    again: Interval = 0.15
    """Between rounds while one is late or was bad."""
    timeout: Seconds = 0.8
    """An answer later than this is a miss; more than any good answer takes, by satellite too."""
    required: Count = 1
    """So many targets must answer for a round to be good."""
    attempts: Attempts = 1
    """A target is asked so often in one round, one after the other."""
    answers: Attempts = 1
    """So many of the attempts must be answered."""
    down: Rounds = 5
    """So many bad rounds in a row, and the link is offline."""
    up: Rounds = 10
    """So many good ones, and it is online again."""
    window: Window = 50
    """Loss and latency are those of so many probes."""
    max_loss: Fraction | None = 0.5
    """More of them lost is bad, although some are answered."""
    good_loss: Fraction | None = None
    """Once offline, no more may be lost to be online again; absent: half of max-loss."""
    max_latency: Seconds | None = None
    """A longer mean round trip is bad."""
    good_latency: Seconds | None = None
    """Once offline, it may be no longer to be online again; absent: four fifths of max-latency."""
