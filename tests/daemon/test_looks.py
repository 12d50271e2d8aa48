"""How much charon is asked for: a hub with a thousand SAs does not have them all told for each event."""

import asyncio
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address
from typing import Any

import pytest
from security_cases import HIGH, LOW, sa
from test_foreign import node

from dmvpn.daemon import ike as ike_module
from dmvpn.daemon.ike import NAMED_LIMIT, Ike
from dmvpn.daemon.orders import Down, Up
from dmvpn.daemon.papers import Papers
from dmvpn.daemon.security import CONFIRMED_S
from dmvpn.daemon.vouching import Vouching
from dmvpn.identity.claims import Claims
from dmvpn.linux.vici_client import IkeSa

WHOLE = "all"


class Charon:
    """Lists what stands, and keeps what it was asked for."""

    def __init__(self, *sas: IkeSa) -> None:
        self.sas = {one.unique_id: one for one in sas}
        self.asked: list[str] = []

    def list_sas(self, unique_id: str | None = None) -> tuple[IkeSa, ...]:
        self.asked.append(unique_id or WHOLE)
        if unique_id is None:
            return tuple(self.sas.values())
        return (self.sas[unique_id],) if unique_id in self.sas else ()

    def peer_certificates(self) -> tuple[()]:
        return ()

    def terminate(self, unique_id: str) -> None: ...

    def terminate_now(self, unique_id: str) -> None: ...


def empty(key: str, *, age_s: float = 1.0) -> IkeSa:
    """An IKE SA without a child yet: nobody stands behind it, so nobody is refused or at the door."""
    return sa(key, age_s=age_s, children=())


def after(*sas: IkeSa) -> tuple[Charon, Callable[[Callable[[Ike], Awaitable[None]]], None]]:
    charon: Any = Charon(*sas)

    def run(test: Callable[[Ike], Awaitable[None]]) -> None:
        async def work() -> None:
            async def on_up(_up: Up, _claims: Claims) -> None: ...

            def on_down(_down: Down) -> None: ...

            read = node()
            ike = Ike(read, Vouching(Papers(read.paths.pki)), on_up, on_down, lambda _nbma, _version: None)
            ike._session = charon
            await ike._look()
            charon.asked.clear()
            await test(ike)
            ike._worker.shutdown()

        asyncio.run(work())

    return charon, run


def test_an_event_has_its_own_sa_told_and_no_other() -> None:
    charon, run = after(empty("1"), empty("2"))

    async def test(ike: Ike) -> None:
        charon.sas["3"] = empty("3")
        del charon.sas["2"]
        ike._happened("3")
        ike._happened("2")
        ike._happened("3")
        await ike._look()
        assert sorted(charon.asked) == ["2", "3"]
        assert sorted(one.unique_id for one in ike.sas) == ["1", "3"]

    run(test)


def test_a_change_takes_the_place_of_what_was_known() -> None:
    charon, run = after(empty("1"), empty("2"))

    async def test(ike: Ike) -> None:
        charon.sas["2"] = empty("2", age_s=3.0)
        ike._happened("2")
        await ike._look()
        assert {one.unique_id: one.established_s for one in ike.sas} == {"1": 1.0, "2": 3.0}

    run(test)


@pytest.mark.parametrize(
    "names",
    [
        pytest.param((), id="nothing is named"),
        pytest.param(("1", ""), id="an event without an id"),
        pytest.param(tuple(map(str, range(NAMED_LIMIT + 1))), id="more than are worth asking one by one"),
    ],
)
def test_otherwise_all_are_told(names: tuple[str, ...]) -> None:
    charon, run = after(empty("1"))

    async def test(ike: Ike) -> None:
        for name in names:
            ike._happened(name)
        await ike._look()
        assert charon.asked == [WHOLE]
        assert ike._named == set()

    run(test)


def test_while_something_has_yet_to_settle_all_are_told() -> None:
    assert int(LOW) < int(HIGH)
    stood = sa("1", peer=IPv4Address("203.0.113.9"))
    charon, run = after(stood)

    async def test(ike: Ike) -> None:
        assert ike._security.next_settle() is not None
        ike._happened("1")
        await ike._look()
        assert charon.asked == [WHOLE]

    run(test)


def test_now_and_then_all_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ike_module, "LOOK_EVERY_S", 0.0)
    charon, run = after(empty("1"))

    async def test(ike: Ike) -> None:
        ike._happened("1")
        await ike._look()
        assert charon.asked == [WHOLE]

    run(test)


def test_who_each_sa_is_with_is_known_once_nobody_is_at_the_door() -> None:
    """Until then a dmvpnd that starts cannot say that there is no tunnel."""
    charon, run = after(sa("1", peer=IPv4Address("100.64.0.7")))

    async def test(ike: Ike) -> None:
        assert not ike.has_told, "its certificate has not been seen yet"
        charon.sas.clear()
        for _ in range(2):  # an SA is gone when two looks say so
            await asyncio.sleep(CONFIRMED_S)
            await ike._look()
        assert ike.has_told

    run(test)
