"""An engine with one shortcut in a given state, and what may happen to it next."""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address

from engine_bench import (
    HUB,
    HUB_NBMA,
    OTHER_NBMA,
    OWN,
    PEER,
    PEER_HOST,
    PEER_LAN,
    PEER_NBMA,
    Bench,
    answer,
    indication,
    spoke,
)

from dmvpn.nhrp.events import (
    Action,
    BindNeighbour,
    Forget,
    InstallRoute,
    Refused,
    Send,
    Used,
)
from dmvpn.nhrp.messages import error_indication, purge_request
from dmvpn.nhrp.numbers import ErrorCode
from dmvpn.nhrp.packet import Packet, decode
from dmvpn.nhrp.shortcut import ShortcutState

RESOLVING, CONNECTING, AUTHORISING, PROBING, UP, NEGATIVE = ShortcutState
ASK = "RESOLUTION_REQUEST"
OTHER_HOST = ip_address("10.1.13.10")


def row(bench: Bench):
    rows = bench.view().shortcuts
    return rows[0] if rows else None


def asked_for(bench: Bench, destination: object = PEER_HOST) -> Packet:
    """Our latest question about it."""
    for action in reversed(bench.said):
        if isinstance(action, Send) and (packet := decode(action.octets)).destination_protocol == destination:
            return packet
    raise AssertionError(f"nothing was asked about {destination}")


def bench_in(state: ShortcutState, **changed: object) -> Bench:
    bench = spoke(**changed)
    bench.packet(indication(), HUB_NBMA)
    bench.silent = True
    if state is NEGATIVE:
        nak(bench)
    elif state is not RESOLVING:
        answered(bench)
    if state in (AUTHORISING, PROBING, UP):
        bench.up(PEER_NBMA)
    if state in (PROBING, UP):
        bench.answer_all()
    if state is UP:
        probed(bench)
    bench.silent = False
    assert row(bench).state is state
    return bench


Input = Callable[[Bench], list[Action]]


def indicated(bench: Bench) -> list[Action]:
    return bench.packet(indication(), HUB_NBMA)


def answered(bench: Bench) -> list[Action]:
    return bench.packet(answer(asked_for(bench)), HUB_NBMA)


def nak(bench: Bench) -> list[Action]:
    return bench.packet(answer(asked_for(bench), code=12), HUB_NBMA)


def unreachable(bench: Bench, sender: object = HUB_NBMA) -> list[Action]:
    about = asked_for(bench)
    error = error_indication(bench.engine._core, OWN, about.encode(), about, ErrorCode.UNREACHABLE, 0)
    return bench.packet(replace(error, source_nbma=HUB_NBMA, source_protocol=HUB), sender)


def unreachable_says_a_stranger(bench: Bench) -> list[Action]:
    return unreachable(bench, OTHER_NBMA)


def sa_up(bench: Bench) -> list[Action]:
    bench.silent = True
    return bench.up(PEER_NBMA)


def sa_down(bench: Bench) -> list[Action]:
    return bench.down(PEER_NBMA)


def allowed(bench: Bench) -> list[Action]:
    return bench.answer_all()


def refused(bench: Bench) -> list[Action]:
    bench.refuses = {str(PEER_LAN)}
    return bench.answer_all()


def probed(bench: Bench) -> list[Action]:
    return bench.packet(answer(asked_for(bench, PEER), prefix=32), PEER_NBMA)


def probed_by_another(bench: Bench) -> list[Action]:
    return bench.packet(answer(asked_for(bench, PEER), prefix=32), OTHER_NBMA)


def long_wait(bench: Bench) -> list[Action]:
    return bench.wait(25.0)


def used(bench: Bench) -> list[Action]:
    return bench.tell(Used(PEER_NBMA))


def purge(bench: Bench, source: object, nbma: object) -> Packet:
    core = bench.engine._core
    packet = purge_request(core, OWN, OWN, 77, PEER_LAN, silent=True)
    return replace(packet, source_protocol=source, source_nbma=nbma)


def purged(bench: Bench) -> list[Action]:
    return bench.packet(purge(bench, PEER, PEER_NBMA), PEER_NBMA)


def purged_by_hub(bench: Bench) -> list[Action]:
    return bench.packet(purge(bench, PEER, PEER_NBMA), HUB_NBMA)


def purged_by_another(bench: Bench) -> list[Action]:
    return bench.packet(purge(bench, PEER, PEER_NBMA), OTHER_NBMA)


def forgotten(bench: Bench) -> list[Action]:
    return bench.tell(Forget(PEER_LAN))


def route_refused(bench: Bench) -> list[Action]:
    return bench.tell(Refused(InstallRoute(PEER_LAN, PEER, None), "no such device"))


def neighbour_refused(bench: Bench) -> list[Action]:
    return bench.tell(Refused(BindNeighbour(PEER, PEER_NBMA), "table full"))
