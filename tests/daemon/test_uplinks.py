"""Uplinks as dmvpnd keeps them: what a change brings, and what it leaves alone."""

import asyncio
import dataclasses
from collections.abc import Callable
from ipaddress import ip_address, ip_interface
from pathlib import Path

import pytest
from uplink_world import GATEWAY, TABLE_MAIN, ULA, V4, V6, World, device, play, uplink, watch

from dmvpn.daemon import restoring, uplink_memory
from dmvpn.daemon.uplinks import Uplinks
from dmvpn.errors import Fault
from dmvpn.linux.uplink_tables import SHARED_METRIC
from dmvpn.linux.uplink_watch import DeviceFacts


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return play(tmp_path, monkeypatch)


def state(name: str) -> Callable[[Uplinks], str]:
    return lambda one: next(row.state for row in one.rows({}) if row.name == name)


SECOND = device(2, "203.0.113.2/24", gateway="203.0.113.1")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param((V4,), (V4, V6), id="IPv6 comes some seconds after IPv4"),
        pytest.param((V4, V6), (V4, "2001:db8:1::5/64"), id="another IPv6 prefix"),
        pytest.param((V4, V6), (V4,), id="IPv6 goes"),
        pytest.param((V4,), (V4, "198.51.100.9/24"), id="a second address"),
    ],
)
def test_a_change_beside_the_address_that_is_asked_from_leaves_a_good_link_alone(
    world: World, before: tuple[str, ...], after: tuple[str, ...]
) -> None:
    world.put(device(1, *before, gateway=GATEWAY), SECOND)
    kept = {str(ip_interface(one).ip) for one in (*before, *after)} - {str(ip_interface(one).ip) for one in before}
    seen = world.run(lambda _: world.put(device(1, *after, gateway=GATEWAY), SECOND), state("isp1"))
    assert seen == "online"
    assert not any(V4.partition("/")[0] in dead or kept & dead for dead in world.moved), "it still carries"
    assert (1 << 16, 0) not in world.forgotten, "not of both families"
    assert world.defaults(TABLE_MAIN) == {GATEWAY, "203.0.113.1"}


def test_another_address_has_to_prove_itself_and_only_the_old_one_is_dead(world: World) -> None:
    world.put(device(1, V4, V6, gateway=GATEWAY), SECOND)
    renumbered = device(1, "198.51.100.9/24", V6, gateway=GATEWAY)
    assert world.run(lambda _: world.put(renumbered, SECOND), state("isp1")) == "connecting"
    assert world.moved[-1] == {"198.51.100.2"}
    assert world.forgotten == [(1 << 16, 4)], "once"


def test_a_device_that_was_made_anew_has_lost_all_of_its_addresses(world: World) -> None:
    world.put(device(1, V4, V6, gateway=GATEWAY), SECOND)
    anew = device(1, V4, V6, gateway=GATEWAY, index=77)
    assert world.run(lambda _: world.put(anew, SECOND), state("isp1")) == "connecting"
    assert world.moved[-1] == {"198.51.100.2", "2001:db8::5"}
    assert world.forgotten == [(1 << 16, 4), (1 << 16, 6)]


def test_a_link_that_is_given_up_takes_all_of_its_addresses_along(world: World) -> None:
    world.put(device(1, V4, V6, gateway=GATEWAY), SECOND)
    dark = dataclasses.replace(device(1, V4, V6, gateway=GATEWAY), carrier=False)
    assert world.run(lambda _: world.put(dark, SECOND), state("isp1")) == "offline"
    assert world.moved[-1] == {"198.51.100.2", "2001:db8::5"}
    assert world.forgotten == [(1 << 16, 0)]


@pytest.mark.parametrize("gateway", [GATEWAY, None], ids=["DHCP", "PPP"])
def test_a_leased_gateway_outlives_a_restart_while_its_default_route_is_withdrawn(
    world: World, gateway: str | None
) -> None:
    """The client tells it once, and nobody again until the next lease."""
    there = device(1, V4, gateway=gateway or "0.0.0.0")
    if gateway is None:
        there = dataclasses.replace(there, defaults=(dataclasses.replace(there.defaults[0], gateway=None),))
    world.put(there, SECOND)
    world.run()
    world.put(dataclasses.replace(there, defaults=()), SECOND)
    world.run()
    assert world.defaults(440001) == {str(gateway)}, "or no probe could leave, and it stayed down"
    world.put(device(1, "198.51.100.9/24"), SECOND)
    world.run()
    assert world.defaults(440001) == set(), "with another address it may be another one"


@pytest.mark.parametrize("text", ["", "[]", '{"isp1": "online"}', '{"isp1": {"state": "x", "gateways": []}}'])
def test_others_words_in_the_memory_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / uplink_memory.FILE).write_text(text)
    assert uplink_memory.UplinkMemory(tmp_path).recall() == {}


def test_one_uplink_left_of_several_has_their_rules_and_routes_taken_away_once(world: World) -> None:
    world.uplinks = world.uplinks[:1]
    world.put(device(1, V4, gateway=GATEWAY))
    world.run(lambda _: world.put(device(1, V4, V6, gateway=GATEWAY)))
    assert world.left_behind == [(SHARED_METRIC, [], 2)]


def test_a_probe_that_cannot_be_sent_costs_no_uplink_its_next_one(world: World) -> None:
    """There is one timer for all uplinks."""
    often = dataclasses.replace(watch("9.9.9.9"), interval_s=0.01)
    world.uplinks = tuple(dataclasses.replace(one, watch=often) for one in world.uplinks)
    world.put(device(1, V4, gateway=GATEWAY), SECOND)
    world.probe_fails = True
    world.run(lambda _: setattr(world, "probe_fails", False), lambda _: world.asked.clear(), lambda _: None)
    assert {"eth1", "eth2"} <= set(world.asked)


REFUSED = Fault("route", "no buffer space available")


def test_what_the_kernel_refused_is_tried_again_without_another_change(world: World) -> None:
    both = {GATEWAY, "203.0.113.1"}
    world.put(SECOND)
    for refusals in ([REFUSED], [REFUSED, REFUSED]):  # of a look; of a look, and then of its routes

        def change(_: Uplinks, refusals: list[Fault] = refusals) -> None:
            world.refusals = list(refusals)
            world.put(device(1, V4, gateway=GATEWAY), SECOND)

        trouble = world.run(change, lambda one: one.trouble)
        assert (world.defaults(440001) | world.defaults(440002), trouble) == (both, "")


def static(world: World) -> None:
    world.uplinks = (uplink(1, V4), uplink(2, "203.0.113.2/24"))


def test_devices_that_come_back_bare_together_are_restored_at_once(world: World) -> None:
    static(world)
    world.put(device(1, V4), SECOND)
    world.run(lambda _: world.put(device(1, index=51), device(2, index=52)))
    assert world.reloads == 1
    world.run(lambda _: None)
    assert world.reloads == 2, "bare from the start too"
    world.unloadable = [REFUSED]
    world.run(lambda _: asyncio.sleep(0.3))
    assert world.reloads == 4, "one more try for both"


def test_one_that_is_never_left_alone_does_not_keep_another_waiting(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restoring, "RESTORE_S", 0.04)
    static(world)
    there = device(1, V4)
    world.put(there, SECOND)

    async def flap(_: Uplinks) -> None:
        world.put(there, device(2, index=52))
        for times in range(1, 40):
            await asyncio.sleep(0.01)
            world.put(dataclasses.replace(there, turned_on=times), device(2, index=52))

    world.run(flap, lambda _: asyncio.sleep(0.1))
    assert world.reloads >= 2, "after five times the rest that nobody got, and when it came"


def test_an_address_that_somebody_takes_away_is_not_brought_back(world: World) -> None:
    static(world)
    world.put(device(1, V4), SECOND)
    world.run(lambda _: world.put(device(1), SECOND))
    assert world.reloads == 0


def off(facts: DeviceFacts) -> DeviceFacts:
    return dataclasses.replace(facts, up=False)


def test_a_device_that_was_switched_off_and_on_gets_what_went_with_it(world: World) -> None:
    static(world)
    there = device(1, V4)
    world.put(there, SECOND)
    world.run(
        lambda _: world.put(off(there), SECOND),
        lambda _: world.put(dataclasses.replace(there, turned_on=1), SECOND),
        lambda _: world.put(dataclasses.replace(there, turned_on=1, addresses=(*there.addresses, *SECOND.addresses))),
    )
    assert world.reloads == 1


def test_one_that_is_switched_all_the_time_is_restored_when_it_rests(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restoring, "RESTORE_S", 0.1)
    static(world)
    there = device(1, V4)
    world.put(there, SECOND)
    world.unloadable = [REFUSED]

    async def flap(_: Uplinks) -> None:
        for times in range(1, 30):
            world.put(dataclasses.replace(there, turned_on=times), SECOND)
            await asyncio.sleep(0.002)

    world.run(flap, lambda _: asyncio.sleep(0.6))
    assert world.reloads == 2, "the last coming's, and once more after a refusal"


def test_the_default_route_of_an_only_uplink_is_brought_back_with_its_device(world: World) -> None:
    alone = dataclasses.replace(uplink(1, V4), gateways=(ip_address(GATEWAY),))
    world.uplinks = (alone,)
    there = device(1, V4, gateway=GATEWAY)
    world.put(there)
    world.run(lambda _: world.put(dataclasses.replace(there, defaults=())))
    assert world.reloads == 0, "somebody took it away"
    world.put(there)
    world.run(lambda _: world.put(dataclasses.replace(there, defaults=(), turned_on=1)))
    assert world.reloads == 1


def test_a_restoration_that_fails_is_tried_again_and_one_that_worked_is_not(world: World) -> None:
    static(world)
    world.put(device(1, V4), SECOND)
    world.unloadable = [REFUSED, REFUSED]
    world.run(lambda _: world.put(device(1, index=51), SECOND), lambda _: None, lambda _: None)
    assert world.reloads == 3


@pytest.mark.parametrize(
    ("addresses", "temporary", "chosen"),
    [
        pytest.param((ULA, V6), (), V6, id="a unique local one leads to no ISP"),
        pytest.param(("2001:db8::99/64", V6), ("2001:db8::99",), V6, id="a temporary one is gone tomorrow"),
        pytest.param(("2001:db8::99/64", ULA), ("2001:db8::99",), "2001:db8::99/64", id="and yet better than that"),
        pytest.param((V6, "2001:db8:1::5/64"), (), V6, id="else the kernel's first"),
    ],
)
def test_of_several_ipv6_addresses_one_is_sent_from_that_the_internet_knows(
    world: World, addresses: tuple[str, ...], temporary: tuple[str, ...], chosen: str
) -> None:
    there = dataclasses.replace(device(1, V4, *addresses), temporary=frozenset(map(ip_address, temporary)))
    world.put(there, SECOND)
    assert str(world.run(lambda one: one.address(("isp1",), 6))) == chosen.partition("/")[0]


def test_the_address_that_is_sent_from_stays_when_a_better_one_does_not_come(world: World) -> None:
    world.put(device(1, V4, V6), SECOND)
    more = device(1, V4, "2001:db8:1::5/64", V6)  # the kernel lists the latest first
    assert str(world.run(lambda _: world.put(more, SECOND), lambda one: one.address(("isp1",), 6))) == "2001:db8::5"
