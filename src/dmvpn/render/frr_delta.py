"""From one bgpd.conf of a hub to the next, where only spokes came, went or changed: the lines that bring bgpd there.

frr-reload.py compares every line with every other: 300 spokes and one more took it a minute and a half, 1000 more than
five. These lines name only who changed, so the sessions of all others are not even looked at.
"""

import re
from dataclasses import dataclass, field

_LIST = re.compile(r"(ip(?:v6)? prefix-list (?P<name>\S+-from-(?P<address>[0-9a-f.:]+))) seq (?P<seq>\d+) .+")
_GROUPED = re.compile(r" neighbor (?P<address>[0-9a-f.:]+) peer-group \S+")
_NEIGHBOUR = re.compile(r" {1,2}neighbor (?P<address>[0-9a-f.:]+) .+")
_ROUTER = re.compile(r"router bgp \d+")


@dataclass(slots=True)
class _Spoke:
    """Its lines, in the file's order."""

    filters: dict[int, str] = field(default_factory=dict)  # by sequence number
    head: str = ""  # of its prefix list
    itself: list[str] = field(default_factory=list)
    family: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Delta:
    """`lines` are a configuration to load. `again`: neighbours that stay and of whom something else is taken now."""

    lines: tuple[str, ...]
    again: tuple[str, ...]
    is_all: bool  # False: more differs than the spokes


UNKNOWN = Delta((), (), is_all=False)  # from who knows what


def delta(before: str, after: str) -> Delta:
    """Both are what bgpd_conf() renders."""
    old, old_rest = _parted(before)
    new, new_rest = _parted(after)
    stays = {one for one in new if one in old and new[one].itself == old[one].itself}
    gone = [one for one in old if one not in stays]
    come = [one for one in new if one not in stays]
    again = tuple(one for one in new if one in stays and new[one].filters != old[one].filters)
    lines: list[str] = []
    for one in (*come, *again):
        lines += _list_lines(old.get(one, _Spoke()).filters, new[one])
    router = next((line for line in new_rest if _ROUTER.fullmatch(line)), "")
    if gone or come:
        lines += [router, *(f" no neighbor {one}" for one in gone)]
        lines += [line for one in come for line in new[one].itself]
        for version, mark in (("4", "."), ("6", ":")):
            family = [line for one in come if mark in one for line in new[one].family]
            lines += [f" address-family ipv{version} unicast", *family, " exit-address-family"] if family else []
        lines.append("exit")
    lines += [f"no {old[one].head}" for one in gone if one not in new and old[one].head]
    return Delta(tuple(lines), again, old_rest == new_rest)


def _list_lines(old: dict[int, str], spoke: _Spoke) -> list[str]:
    """From the end, where the deny of everything is: a list is at no moment wider than the old one or the new."""
    lines = [spoke.filters[seq] for seq in sorted(spoke.filters, reverse=True)]
    return lines + [f"no {old[seq]}" for seq in sorted(old) if seq not in spoke.filters]


def _parted(text: str) -> tuple[dict[str, _Spoke], list[str]]:
    """The spokes by address, and every other line but the comments."""
    lines = [line for line in text.splitlines() if not line.startswith("!")]
    spokes = {match["address"]: _Spoke() for line in lines if (match := _GROUPED.fullmatch(line))}
    rest = []
    for line in lines:
        listed, spoken = _LIST.fullmatch(line), _NEIGHBOUR.fullmatch(line)
        if listed and listed["address"] in spokes:
            spoke = spokes[listed["address"]]
            spoke.head = listed[1]
            spoke.filters[int(listed["seq"])] = line
        elif spoken and spoken["address"] in spokes:
            spoke = spokes[spoken["address"]]
            (spoke.family if line.startswith("  ") else spoke.itself).append(line)
        else:
            rest.append(line)
    return spokes, rest
