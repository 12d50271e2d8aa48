"""The zone policy asked: what becomes of the packets of `policy.tests`, on every router that has their zones."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dmvpn.errors import Finding, Problem, Problems, WrongInput
from dmvpn.firewall.catalogue import PROTOCOLS
from dmvpn.firewall.limits import described
from dmvpn.firewall.ruleset import Verdict
from dmvpn.firewall.verdicts import Outcome, Packet, judge
from dmvpn.network import source
from dmvpn.network.plan import Plan, Plane
from dmvpn.network.policy_model import PolicyTest
from dmvpn.network.policy_tests import questions, way
from dmvpn.network.source import Source
from dmvpn.operations import reading
from dmvpn.operations.reading import NetworkFile
from dmvpn.render import nft_policy


@dataclass(frozen=True, slots=True)
class Answer:
    """One test on one router. `where` is the test's place in the file, `by` the rule that decided."""

    where: str
    router: str
    come: str  # zone
    go: str
    source: str
    destination: str
    service: str
    expected: str
    verdict: str
    by: str
    rule: str  # its place in the file; empty for what is derived
    right: bool


def ask(path: Path) -> tuple[Answer, ...]:
    """Every answer, in the file's order. Raises Problems for a wrong file, and for tests that no router can answer,
    WrongInput if there is nothing to ask."""
    file = reading.read(path)
    policy = file.network.policy
    if policy is None or not policy.tests:
        fix = "write some, such as {in: lan, out: internet, service: https, expect: accept}"
        raise WrongInput(str(path), "there is no packet to ask about under policy.tests", fix)
    places = source.read(file.text, file.name)
    found: dict[int, list[Answer]] = {}
    for router in reading.our_routers(file):
        for index, asked in _asked(file, router).items():
            where = places.where(("policy", "tests", index))
            found.setdefault(index, []).append(_answer(policy.tests[index], asked, router, where, places))
    nowhere = [
        _nowhere(places, index, one.in_, one.out) for index, one in enumerate(policy.tests) if index not in found
    ]
    if nowhere:
        raise Problems(nowhere)
    return tuple(answer for index in sorted(found) for answer in found[index])


def _nowhere(places: Source, index: int, come: str, go: str) -> Finding:
    what = f"no router has both zones, {come} and {go}"
    return places.finding(Problem(("policy", "tests", index), what, "name zones of one site"))


@dataclass(frozen=True, slots=True)
class _Asked:
    plane: str  # empty where the router can have no other
    packet: Packet
    outcome: Outcome


def _asked(file: NetworkFile, router: str) -> dict[int, list[_Asked]]:
    """Every packet of every test that the router can answer, on each plane that it may come to have."""
    found: dict[int, list[_Asked]] = {}
    possible = {next((one.plane for one in plan.clouds), None): plan for plan in _plans(file, router)}
    for plane, plan in possible.items():
        rules = nft_policy.ruleset(plan)
        for question in questions(file.network, plan):
            if rules is not None:
                said = str(plane) if len(possible) > 1 else ""
                found.setdefault(question.index, []).extend(
                    _Asked(said, packet, judge(rules, packet, partial(way, plan))) for packet in question.packets
                )
    return found


def _plans(file: NetworkFile, router: str) -> Iterator[Plan]:
    """As on a machine whose kernel has both planes, and where that decides, with userspace alone too."""
    both, alone = (Plane.KERNEL, Plane.USERSPACE), (Plane.USERSPACE,)
    for planes in (alone, both) if reading.plane_is_open(file, router) else (both,):
        yield reading.plan_without_secrets(file, router, planes)


def _answer(test: PolicyTest, asked: list[_Asked], router: str, where: str, places: Source) -> Answer:
    """Of several devices, ports and planes the first that is answered otherwise than expected."""
    expected = Verdict(test.expect)
    wrong = [one for one in asked if one.outcome.verdict is not expected]
    shown = (wrong or asked)[0]
    packet = shown.packet
    return Answer(
        where=where,
        router=router,
        come=test.in_,
        go=test.out,
        source=str(packet.source),
        destination=str(packet.destination),
        service=test.service,
        expected=expected.value,
        verdict=shown.outcome.verdict.value,
        by=", ".join((*_reasons(packet, shown.outcome), *(_only(shown, asked) if wrong else ()))),
        rule=_place(shown.outcome.origin, places),
        right=not wrong,
    )


def _only(shown: _Asked, asked: list[_Asked]) -> tuple[str, ...]:
    """What tells a packet from those of its test that were answered as expected."""
    right = [_said(one) for one in asked if one.outcome.verdict is not shown.outcome.verdict]
    words = _said(shown)
    telling = tuple(word for at, word in enumerate(words) if word not in {other[at] for other in right})
    return tuple(word for word in telling or words if word) if right else ()


def _said(one: _Asked) -> tuple[str, ...]:
    """A packet in words, kind by kind."""
    packet = one.packet
    protocol = next((name for name, number in PROTOCOLS.items() if number == packet.protocol), str(packet.protocol))
    kind = packet.port if packet.type is None else packet.type
    return (
        f"for {protocol}{'' if kind is None else f' {kind}'}",
        f"from {packet.device_in}" if packet.device_in else "",
        f"to {packet.device_out}" if packet.device_out else "",
        f"on the {one.plane} plane" if one.plane else "",
    )


def _place(origin: str, places: Source) -> str:
    """Where a rule of the file stands: `policy.default[1]` is its name in all that is rendered."""
    found = re.fullmatch(r"policy\.([a-z-]+)\[(\d+)\]", origin)
    return "" if found is None else places.where(("policy", found[1], int(found[2])))


def _reasons(packet: Packet, outcome: Outcome) -> Iterator[str]:
    yield outcome.origin
    yield from (described(limit) for limit in outcome.limits)
    if outcome.packet is not None and outcome.packet.destination != packet.destination:
        yield f"translated to {outcome.packet.destination}"
