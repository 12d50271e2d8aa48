"""Limits as the kernel counts them: a bucket of tokens for each source, which starts full. nft(8), `limit`.

So many at once, and as many again spread over the interval. That is more lenient than xt_recent, which awall uses:
there each refused attempt prolongs the block until the source is silent for the interval. It is stricter in that 65,535
sources are remembered and not 100.
"""

from dataclasses import dataclass

from dmvpn.firewall.policy import Limit

UNITS = (("second", 1), ("minute", 60), ("hour", 3600), ("day", 86400))
SOURCES = 65535  # remembered by each limit; beyond them new ones are not limited


@dataclass(frozen=True, slots=True)
class Rate:
    """So many packets in each unit of time, `burst` of them at once."""

    packets: int
    unit: str
    burst: int


def rate(limit: Limit) -> Rate:
    """The limit's count over its interval, exactly where a unit allows it, else the next higher number a day."""
    for unit, seconds in UNITS:
        packets, rest = divmod(limit.count * seconds, limit.interval_s)
        if rest == 0 and packets > 0:
            return Rate(packets, unit, limit.count)
    return Rate(-(-limit.count * UNITS[-1][1] // limit.interval_s), UNITS[-1][0], limit.count)


def is_for_each(limit: Limit) -> bool:
    """Whether hosts have a count each."""
    return any(
        one is not None for one in (limit.source_v4, limit.source_v6, limit.destination_v4, limit.destination_v6)
    )


def described(limit: Limit) -> str:
    """In a reader's words."""
    whose = "each" if is_for_each(limit) else "all"
    return f"at most {limit.count} {limit.counts.value} in {limit.interval_s} s for {whose}"
