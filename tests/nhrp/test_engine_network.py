"""Many engines in virtual time. What is wanted becomes direct, nothing stays dark."""

from random import Random

import pytest
from simulation import INTERNAL, Simulation, Wire, host_of, lan_of, nbma_of, overlay_of

from dmvpn.nhrp.events import (
    Egress,
    Happening,
    RemoveRoute,
    RouteChanged,
    UnbindNeighbour,
)
from dmvpn.nhrp.packet import decode
from dmvpn.nhrp.shortcut import ShortcutState, WhyNot

DEAD_PATH_BOUND_S = 4.0  # (probe_limit + 1) probe intervals, as docs/nhrp.md states
STEP_S = 0.25
ROUGH = Wire(loss=0.05, doubled=0.05, delay_s=(0.01, 0.1))
A, B, C = 11, 12, 13
HUB, HUB2 = 1, 2


def network(seed: int = 1, *, hubs: int = 1, spokes: int = 3, wire: Wire | None = None) -> Simulation:
    sim = Simulation(seed, hubs=hubs, spokes=spokes, wire=wire)
    sim.start()
    sim.run(5.0)
    return sim


def direct(sim: Simulation, one: int, other: int) -> bool:
    return sim.packet(host_of(one), host_of(other)) == [one, other]


def lost_s(paths: list[list[int] | None], every_s: float = 0.1) -> float:
    """The longest time in a row that nothing got through."""
    worst = run = 0
    for path in paths:
        run = run + 1 if path is None else 0
        worst = max(worst, run)
    return worst * every_s


def happenings(sim: Simulation, number: int) -> list[Happening]:
    return [log.happening for _, log in sim.by_number[number].logs]


def shortcut_of(sim: Simulation, number: int):
    (row,) = sim.by_number[number].engine.view(sim.now).shortcuts
    return row


@pytest.mark.parametrize("seed", range(6))
def test_every_pair_that_talks_becomes_direct_over_a_rough_wire(seed: int) -> None:
    sim = Simulation(seed, spokes=4, wire=Wire(loss=0.1, doubled=0.1, delay_s=(0.01, 0.15)))
    sim.start()
    sim.run(20.0)
    pairs = [(one, other) for one in sim.spoke_numbers for other in sim.spoke_numbers if one != other]
    sim.run_until(lambda: all([direct(sim, *pair) for pair in pairs]), within_s=90.0, step_s=0.5)


@pytest.mark.parametrize("seed", range(4))
def test_no_packet_is_lost_while_a_flow_changes_to_its_shortcut(seed: int) -> None:
    sim = network(seed)
    paths = sim.flow(A, B, 5.0, every_s=0.01)
    assert None not in paths
    assert paths[0] == [A, HUB, B]
    assert paths[-1] == [A, B]


def misfortune(sim: Simulation, random: Random) -> None:
    match random.choice(("cut", "cut", "heal", "restart")):
        case "cut":
            sim.cut_between(*random.sample(sim.spoke_numbers, 2))
        case "heal":
            sim.heal()
        case _:
            number = random.choice([*sim.spoke_numbers, HUB])
            if sim.by_number[number].alive:
                sim.restart(number, with_snapshot=True, outage_s=0.5)


@pytest.mark.parametrize("seed", range(4))
def test_no_black_hole_outlives_its_bound_whatever_breaks_between_spokes(seed: int) -> None:
    """Cuts, heals and restarts at random; a daemon that is down cannot notice a cut, which adds its outage."""
    random = Random(seed)
    sim = network(seed, spokes=4, wire=ROUGH)
    dark = {(one, other): 0.0 for one in sim.spoke_numbers for other in sim.spoke_numbers if one != other}
    for _ in range(round(300 / STEP_S)):
        if random.random() < 0.02:
            misfortune(sim, random)
        for one, other in dark:
            path = sim.packet(host_of(one), host_of(other))
            dark[one, other] = dark[one, other] + STEP_S if path is None else 0.0
        assert max(dark.values()) <= DEAD_PATH_BOUND_S + 0.5 + STEP_S
        sim.run(STEP_S)
    sim.heal()
    sim.run_until(lambda: all([direct(sim, *pair) for pair in dark]), within_s=300.0, step_s=0.5)


def test_the_same_seed_gives_the_same_trace() -> None:
    traces = []
    for _ in range(2):
        sim = network(7, wire=ROUGH)
        sim.flow(A, B, 10.0)
        sim.cut_between(A, B)
        sim.flow(A, B, 10.0)
        traces.append(sim.trace)
    assert traces[0] == traces[1]


def test_a_cut_path_is_left_within_its_bound_and_taken_again_when_it_heals() -> None:
    sim = network()
    sim.flow(A, B, 5.0)
    sim.cut_between(A, B)
    paths = sim.flow(A, B, 10.0)
    assert 0 < lost_s(paths) <= DEAD_PATH_BOUND_S
    assert paths[-1] == [A, HUB, B]
    assert shortcut_of(sim, A).state is not ShortcutState.UP
    sim.heal()
    sim.run_until(lambda: direct(sim, A, B), within_s=30.0)


def test_a_withdrawn_route_goes_before_its_neighbour_entry() -> None:
    sim = network()
    sim.flow(A, B, 5.0)
    sim.cut_between(A, B)
    node = sim.by_number[A]
    node.tapped.clear()
    sim.run(DEAD_PATH_BOUND_S)
    removal = node.tapped.index(RemoveRoute(lan_of(B)))
    assert removal < node.tapped.index(UnbindNeighbour(overlay_of(B)))


def test_a_dead_peer_is_given_up_within_the_bound_and_stays_wanted_through_the_hub() -> None:
    sim = network()
    sim.flow(A, B, 5.0)
    sim.die(B)
    begun = sim.now
    sim.run_until(lambda: not sim.by_number[A].shortcuts, within_s=DEAD_PATH_BOUND_S + 0.1)
    assert sim.now - begun <= DEAD_PATH_BOUND_S + 0.1
    assert shortcut_of(sim, A).why in (WhyNot.PATH_DEAD, WhyNot.NO_ANSWER, WhyNot.NO_SECURITY)


@pytest.mark.parametrize("number", [A, B, HUB], ids=["of the sender", "of the receiver", "of the hub"])
@pytest.mark.parametrize("with_snapshot", [True, False], ids=["with its snapshot", "with nothing"])
def test_a_restart_loses_no_packet_of_a_direct_flow(number: int, with_snapshot: bool) -> None:  # noqa: FBT001
    sim = network()
    sim.flow(A, B, 5.0)
    sim.restart(number, with_snapshot=with_snapshot)
    assert sim.flow(A, B, 30.0) == [[A, B]] * 300


def test_an_adopted_shortcut_is_confirmed_by_probes_and_not_resolved_again() -> None:
    sim = network()
    sim.flow(A, B, 5.0)
    sim.restart(A, with_snapshot=True)
    sim.run(0.5)
    node = sim.by_number[A]
    node.sent.clear()
    sim.run(5.0)
    asked = {decode(send.octets).destination_protocol for _, send in node.sent}
    assert overlay_of(B) in asked
    assert host_of(B) not in asked
    assert shortcut_of(sim, A).state is ShortcutState.UP


def test_an_adopted_shortcut_whose_peer_died_meanwhile_is_withdrawn_within_the_bound() -> None:
    sim = network()
    sim.flow(A, B, 5.0)
    sim.restart(A, with_snapshot=True)
    sim.die(B)
    sim.run(1.0 + DEAD_PATH_BOUND_S)
    assert not sim.by_number[A].shortcuts


def test_a_hub_that_forgot_its_clients_has_them_back_within_one_probe() -> None:
    sim = network()
    hub = sim.by_number[HUB]
    hub.neighbours.clear()
    sim.restart(HUB, with_snapshot=False)
    sim.run(1.0 + 5.1)
    assert set(hub.neighbours) == {overlay_of(number) for number in sim.spoke_numbers}


def test_an_unused_shortcut_expires_and_lets_its_sa_go_on_both_ends() -> None:
    sim = network()
    sim.flow(A, B, 5.0)
    sim.run(1500.0)
    for number, peer in ((A, B), (B, A)):
        node = sim.by_number[number]
        assert node.shortcuts == {}
        assert nbma_of(peer) not in node.sas | node.wanted
    assert happenings(sim, A)[-1] is Happening.SHORTCUT_DOWN


def test_a_used_shortcut_is_refreshed_without_ever_going_down() -> None:
    sim = network()
    sim.flow(A, B, 5.0)
    assert sim.flow(A, B, 2000.0, every_s=10.0) == [[A, B]] * 200
    assert Happening.SHORTCUT_DOWN not in happenings(sim, A)


def test_a_used_shortcut_outlives_its_holding_time_without_any_hub() -> None:
    sim = network()
    sim.flow(A, B, 5.0)
    sim.die(HUB)
    assert sim.flow(A, B, 1800.0, every_s=10.0) == [[A, B]] * 180
    assert Happening.HUB_DOWN in happenings(sim, A)


def test_a_dead_hub_is_noticed_within_twenty_seconds_and_registered_with_again() -> None:
    sim = network()
    sim.cut_between(A, HUB)
    sim.run(20.0)
    assert happenings(sim, A)[-1] is Happening.HUB_DOWN
    sim.heal()
    sim.run_until(lambda: happenings(sim, A)[-1] is Happening.HUB_UP, within_s=30.0)


def test_a_pair_that_ike_cannot_join_is_relayed_and_says_why() -> None:
    sim = network()
    pair = frozenset((nbma_of(A), nbma_of(B)))
    sim.ike.impossible.add(pair)
    assert sim.flow(A, B, 60.0) == [[A, HUB, B]] * 600
    row = shortcut_of(sim, A)
    assert (row.state, row.why) == (ShortcutState.NEGATIVE, WhyNot.NO_SECURITY)
    sim.ike.impossible.clear()
    sim.run_until(lambda: direct(sim, A, B), within_s=300.0, step_s=1.0)


def test_a_late_sa_is_taken_up_by_the_pair_that_had_given_up() -> None:
    """The other side's flow brings the SA up; the negative entry does not wait for its end."""
    sim = network()
    pair = frozenset((nbma_of(A), nbma_of(B)))
    sim.ike.impossible.add(pair)
    sim.flow(A, B, 30.0)
    sim.ike.impossible.clear()
    sim.flow(B, A, 3.0)
    assert direct(sim, A, B)


# ---------------------------------------------------------------- two hubs


def reroute(sim: Simulation, number: int, hub: int) -> None:
    """What BGP does when a hub goes: the same prefix by the other one."""
    node = sim.by_number[number]
    route = RouteChanged(INTERNAL, Egress.OVERLAY, overlay_of(hub), "acme-blue")
    node.routes = [route if old.prefix == INTERNAL else old for old in node.routes]
    sim.tell(node, route)


def test_with_two_hubs_a_spoke_registers_with_both_and_a_flow_survives_either() -> None:
    sim = network(hubs=2)
    assert all(row.is_up for row in sim.by_number[A].engine.view(sim.now).hubs)
    sim.flow(A, B, 5.0)
    sim.die(HUB)
    sim.run(20.0)
    for number in (A, B, C):
        reroute(sim, number, HUB2)
    assert sim.flow(A, B, 20.0) == [[A, B]] * 200
    paths = sim.flow(A, C, 20.0)
    assert paths[0] == [A, HUB2, C]
    assert paths[-1] == [A, C]


def test_a_network_behind_the_other_hub_gets_a_shortcut_to_that_hub() -> None:
    sim = network(hubs=2)
    hub = sim.by_number[HUB]
    hub.routes.append(RouteChanged(lan_of(HUB2), Egress.OVERLAY, overlay_of(HUB2), "acme-blue"))
    sim.tell(hub, hub.routes[-1])
    assert sim.flow(A, HUB2, 5.0)[-1] == [A, HUB2]
    assert shortcut_of(sim, A).gateway == overlay_of(HUB2)
