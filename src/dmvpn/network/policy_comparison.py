"""What differs between two policies of one router, in an operator's sentences."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from dmvpn.firewall.policy import (
    AddressSet,
    Clamp,
    Limit,
    Log,
    MarkRule,
    Match,
    Nat,
    Policy,
    Rule,
    Service,
    Traffic,
    Translation,
    Zone,
)

Part = Rule | Nat | Clamp | MarkRule
Named = Zone | AddressSet | Log | Service


def policy_sentences(router: str, old: Policy | None, new: Policy | None) -> Iterator[str]:
    """Nothing if they agree in all but where their rules are written."""
    if new is None:
        if old is not None:
            yield f"{router} loses its zone policy: nothing is filtered any more but what is GRE in clear"
        return
    if old is None:
        count = len(new.rules) + len(new.defaults)
        yield f"{router} gains a zone policy of {count} rules: what none of them lets through is dropped"
        return
    yield from _named(f"{router}: zone", old.zones, new.zones)
    yield from _named(f"{router}: service", old.services, new.services)
    yield from _named(f"{router}: address set", old.sets, new.sets)
    yield from _named(f"{router}: log", old.logs, new.logs)
    yield from _parts(router, "rules", old.rules, new.rules)
    yield from _parts(router, "default rules", old.defaults, new.defaults)
    yield from _parts(router, "source NAT", old.source_nat, new.source_nat)
    yield from _parts(router, "destination NAT", old.destination_nat, new.destination_nat)
    yield from _parts(router, "segment sizes", old.clamps, new.clamps)
    yield from _parts(router, "marks", old.marks, new.marks)


def _named(subject: str, old: Sequence[Named], new: Sequence[Named]) -> Iterator[str]:
    before, after = {one.name: _bare(one) for one in old}, {one.name: _bare(one) for one in new}
    yield from (f"{subject} {name} comes" for name in after if name not in before)
    yield from (f"{subject} {name} goes" for name in before if name not in after)
    for name, one in after.items():
        if name in before and before[name] != one:
            yield f"{subject} {name} changes: {_said(one)}"
    if before == after and list(before) != list(after):
        yield f"{subject}s: their order changes"


def _bare(one: Named) -> Named:
    """Without where it was written."""
    return replace(one, origin="") if isinstance(one, Zone | AddressSet) else one


def _said(one: Named) -> str:
    match one:
        case Zone():
            words = [*(one.devices or ()), *map(str, one.prefixes or ())]
            ipsec = {None: "", True: " in ESP", False: " in clear"}[one.ipsec]
            return f"{' '.join(words) or 'nothing'}{ipsec}{', with a way back' if one.route_back else ''}"
        case AddressSet():
            return f"{len(one.prefixes)} prefixes"
        case Log():
            where = "the kernel's log" if one.group is None else f"NFLOG group {one.group}"
            return f"{where}, at most {one.rate_per_s} a second, prefix {one.prefix!r}"
        case Service():
            return " ".join(map(_traffic, one.traffic))


def _traffic(one: Traffic) -> str:
    ports = ",".join(f"{port.first}-{port.last}" if port.first != port.last else str(port.first) for port in one.ports)
    family = "" if one.family is None else f"@{one.family}"
    return f"{one.protocol}/{ports}{','.join(map(str, one.types))}{family}"


def _parts(router: str, kind: str, old: Sequence[Part], new: Sequence[Part]) -> Iterator[str]:
    before, after = list(map(described, old)), list(map(described, new))
    gained, lost = _without(after, before), _without(before, after)
    yield from (f"{router}: {kind}: gains {one}" for one in gained)
    yield from (f"{router}: {kind}: loses {one}" for one in lost)
    if not gained and not lost and before != after:
        yield f"{router}: {kind}: their order changes"


def _without(some: list[str], others: list[str]) -> list[str]:
    left = list(others)
    found = []
    for one in some:
        if one in left:
            left.remove(one)
        else:
            found.append(one)
    return found


def described(part: Part) -> str:
    """A rule in words, all that it does in them, and not where it is written."""
    match part:
        case Rule():
            limit = "" if part.limit is None else f", {_limit(part.limit)}"
            log = "" if part.log is None else f", logged as {part.log}"
            return f"{part.action.value} {_match(part.match)}{limit}{log}"
        case Nat(to=None):
            return f"no translation {_match(part.match)}"
        case Nat():
            to = " or ".join(map(_translation, part.to or ()))
            own = " at the router's own addresses" if part.own_address else ""
            return f"{_match(part.match)}{own}: {to}{', let through' if part.accepts else ''}"
        case Clamp():
            size = "as the way allows" if part.mss_octets is None else f"{part.mss_octets} octets"
            return f"{_match(part.match)}: {size}"
        case MarkRule():
            return f"{_match(part.match)}: mark {part.mark:#x}{' on connections' if part.tracks else ''}"


def _match(match: Match) -> str:
    words = [
        f"from {_list(match.in_zones)}" if match.in_zones is not None else "",
        f"to {_list(match.out_zones)}" if match.out_zones is not None else "",
        f"source {_list(match.source)}" if match.source is not None else "",
        f"destination {_list(match.destination)}" if match.destination is not None else "",
        f"service {_list(match.services)}" if match.services is not None else "",
        *(f"{one.side.value} in set {one.set}" for one in match.sets),
        f"IPv{match.families[0]} only" if len(match.families) == 1 else "",
    ]
    return " ".join(word for word in words if word) or "everything"


def _list(words: Sequence[object]) -> str:
    return " ".join(map(str, words)) or "nothing"


def _limit(limit: Limit) -> str:
    lengths = (limit.source_v4, limit.source_v6, limit.destination_v4, limit.destination_v6)
    keys = "/".join("-" if one is None else str(one) for one in lengths)
    name = "" if limit.name is None else f" as {limit.name}"
    log = "" if limit.log is None else f" logged as {limit.log}"
    return f"at most {limit.count} {limit.counts.value} in {limit.interval_s} s for each {keys}{name}{log}"


def _translation(to: Translation) -> str:
    ports = "" if to.ports is None else f" port {to.ports.first}-{to.ports.last}"
    if to.first is None:
        return f"the router's own address{ports}"
    return f"{to.first}{'' if to.last in (None, to.first) else f'-{to.last}'}{ports}"
