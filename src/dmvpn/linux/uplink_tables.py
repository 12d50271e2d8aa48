"""`python -m dmvpn.linux.uplink_tables keep|remove PROTOCOL PRIORITY MASK FIRST STATIC TABLE:MARK...`: uplinks' rules.

`keep` sets those that depend on no address: main's own ways first, then by mark. What else belongs to an uplink comes
and goes with it, by dmvpnd. `remove` takes all of it away, whoever of the two has made it, but for STATIC: default
routes of main by family and metric (4:100,6:100, or -) that the network's other state has. FIRST is the first of the
network's run of tables.
"""

import sys
from collections.abc import Sequence

from dmvpn.errors import Fault, WrongInput
from dmvpn.linux.routes import TABLE_MAIN
from dmvpn.linux.uplink_ways import UplinkWays, WayRule

TABLES = 256  # in a network's run
SHARED_METRIC = 50  # of the default route by weights: before the uplinks' own, which begin at 100
USAGE = "keep or remove PROTOCOL PRIORITY MASK FIRST STATIC TABLE:MARK..."
MARKS_AFTER = 1  # priorities, from the first on
SOURCES_AFTER = 2


def standing_rules(priority: int, mask: int, marks: Sequence[tuple[int, int]]) -> tuple[WayRule, ...]:
    """Rules of both families; `marks` are pairs of table and mark."""
    rules = []
    for version in (4, 6):
        # All that main knows better than by its default route: internal prefixes above all, which end unreachable
        # there. Behind this nothing internal follows a mark or a source to an ISP.
        rules.append(WayRule(priority, TABLE_MAIN, version, specific=True))
        rules += [WayRule(priority + MARKS_AFTER, table, version, mark=mark, mask=mask) for table, mark in marks]
    return tuple(rules)


def keep(protocol: int, priority: int, mask: int, first: int, marks: Sequence[tuple[int, int]]) -> None:
    """Raises Fault."""
    # Of tables that are in use dmvpnd has rules too, which stay.
    unused = set(range(first, first + TABLES)) - {table for table, _mark in marks}
    ways = UplinkWays(protocol, TABLE_MAIN, unused)
    try:
        ways.rule(standing_rules(priority, mask, marks))
    finally:
        ways.close()


def remove(protocol: int, first: int, static: Sequence[tuple[int, int]]) -> None:
    """Raises Fault."""
    ways = UplinkWays(protocol, TABLE_MAIN, (), range(first, first + TABLES))
    try:
        ways.forget(SHARED_METRIC, static)
    finally:
        ways.close()


def main(arguments: tuple[str, ...]) -> int:
    """The exit status: 0 done, 1 refused, 2 wrong input."""
    try:
        verb, protocol, priority, mask, first, static, *marks = arguments
        if verb not in ("keep", "remove"):
            raise ValueError(verb)
        if verb == "keep":
            keep(int(protocol), int(priority), int(mask), int(first), _pairs(marks))
        else:
            remove(int(protocol), int(first), _pairs([] if static == "-" else static.split(",")))
    except ValueError:
        fault: Fault = WrongInput("uplink_tables", "what to do?", USAGE)
    except Fault as refused:
        fault = refused
    else:
        return 0
    sys.stderr.write(f"uplink_tables: {fault}\n")
    return fault.exit_code


def _pairs(words: Sequence[str]) -> list[tuple[int, int]]:
    return [(int(one), int(other)) for one, other in (word.split(":") for word in words)]


if __name__ == "__main__":
    raise SystemExit(main(tuple(sys.argv[1:])))
