"""Marks: on packets, or on whole connections in both directions (route-track).

A tracked connection is marked by its first packet, and every later one gets the mark back before it is routed. What is
marked already stays so.
"""

from collections.abc import Iterator
from dataclasses import replace

from dmvpn.firewall import expansion
from dmvpn.firewall.expansion import ANYWHERE, Names, Sides
from dmvpn.firewall.policy import FIREWALL, MarkRule
from dmvpn.firewall.ruleset import Entry, Hook, Marked, Packets


def marks(names: Names, rules: tuple[MarkRule, ...]) -> Iterator[tuple[Hook, tuple[Entry, ...]]]:
    tracked = tuple(dict.fromkeys(rule.mark for rule in rules if rule.tracks))
    if tracked:
        restored = tuple(
            Entry(Packets(connection_mark=mark), Marked(mark, tracks=False), "derived: the connection's mark")
            for mark in tracked
        )
        yield Hook.MARK_BEFORE, restored
        yield Hook.MARK_OUT, restored
    for rule in rules:
        for hook, sides in _stands(names, rule):
            entries = expansion.packets(names, rule.match, sides)
            effect = Marked(rule.mark, rule.tracks)
            yield hook, tuple(Entry(replace(one, unmarked=rule.tracks), effect, rule.origin) for one in entries)


def _stands(names: Names, rule: MarkRule) -> Iterator[tuple[Hook, Sides]]:
    """From zones only: before routing. To zones only: after it. Both: in between. The router's own: as it sends."""
    match = rule.match
    come, go = names.in_zones(match), names.out_zones(match)
    from_router = match.in_zones is not None and FIREWALL in match.in_zones
    to_router = match.out_zones is not None and FIREWALL in match.out_zones
    if come is None and go is None:
        yield Hook.MARK_BEFORE, Sides((ANYWHERE,), None)
        yield Hook.MARK_OUT, Sides(None, (ANYWHERE,))
        return
    if come and go:
        yield Hook.MARK_THROUGH, Sides(come, go)
    elif come and match.out_zones is None:
        yield Hook.MARK_BEFORE, Sides(come, None)
    elif go and match.in_zones is None:
        yield Hook.MARK_AFTER, Sides(None, go)
    if from_router and (go or match.out_zones is None):
        yield Hook.MARK_OUT, Sides(None, go or (ANYWHERE,))
    if to_router and (come or match.in_zones is None):
        yield Hook.MARK_IN, Sides(come or (ANYWHERE,), None)
