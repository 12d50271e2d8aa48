"""One uplink, watched in virtual time: it misses a death within seconds, and nothing else."""

from ipaddress import ip_address

import pytest
from uplink_days import PINGU, Day, day, settings

from dmvpn.uplink.health import Observation, State
from dmvpn.uplink.rounds import Round, Rule, Target
from dmvpn.uplink.watch import Answered, Band, Watch

DAY_S = 86400.0


def dead_from(at: float) -> object:
    return lambda now, _target: 1.0 if now >= at else 0.0


@pytest.mark.parametrize(("targets", "seed"), [(1, 1), (2, 2)])
def test_a_day_with_two_percent_loss_never_flaps(targets: int, seed: int) -> None:
    whole = day(settings(targets), lambda _now, _target: 0.02, seed=seed)
    whole.until(DAY_S)
    assert whole.states() == ["online"]
    assert len(whole.probes) < targets * DAY_S * 1.1, "a lost packet is asked after, and that is all"


def test_hours_of_twenty_percent_loss_give_nothing_up() -> None:
    for targets, allowed in ((1, {"online", "disconnecting"}), (2, {"online"})):
        whole = day(settings(targets), lambda now, _target: 0.2 if now % 3600 < 600 else 0.02, seed=4)
        whole.until(DAY_S / 4)
        assert set(whole.states()) <= allowed, f"{targets} targets"


@pytest.mark.parametrize("after_s", [0.0, 0.01, 0.25, 0.5, 0.75, 0.99])
def test_a_death_is_known_within_three_seconds(after_s: float) -> None:
    dying = day(settings(), dead_from(100 + after_s))
    dying.until(110)
    at = next(at for at, state, _why in dying.changes if state == "offline")
    assert at - (100 + after_s) < 2.7, "so that an SA elsewhere is there within three"


def test_pingu_s_own_settings_take_pingu_s_time() -> None:
    """Its burst: 11 pings of 4 s, every 30 s, two answers are enough: 74 s at worst."""
    at_worst = []
    for after_s in (0.1, 15.0, 29.9):
        dying = day(PINGU, dead_from(300 + after_s))
        dying.until(500)
        at_worst.append(next(at for at, state, _why in dying.changes if state == "offline") - 300 - after_s)
    assert max(at_worst) == pytest.approx(74, abs=0.5)
    assert min(at_worst) == pytest.approx(44, abs=0.5)


def test_pingu_calls_a_link_good_that_loses_most_and_the_defaults_do_not() -> None:
    for chosen, offline in ((PINGU, False), (settings(), True)):
        bad = day(chosen, lambda now, _target: 0.7 if now > 60 else 0.0, seed=2)
        bad.until(600)
        assert ("offline" in bad.states()) is offline


def test_a_link_that_answers_again_waits_for_its_rounds() -> None:
    back = day(settings(), lambda now, _target: 1.0 if 100 <= now < 200 else 0.0)
    back.until(300)
    assert back.states() == ["online", "disconnecting", "offline", "connecting", "online"]
    connecting, online = (at for at, state, _why in back.changes[3:])
    assert online - connecting == pytest.approx(9, abs=0.1)
    assert back.watch.loss == 0


def test_a_link_that_flickers_on_the_way_up_does_not_come_up() -> None:
    flicker = day(settings(), lambda now, _target: 1.0 if 100 <= now < 200 or (now > 200 and now % 6 < 1) else 0.0)
    flicker.until(400)
    assert "online" not in flicker.states()[1:]


def test_one_dead_target_of_two_is_no_dead_link_and_none_on_the_way_up() -> None:
    dead = ip_address("192.0.2.1")
    half = day(settings(2), lambda now, target: 1.0 if target.address == dead or 500 <= now < 600 else 0.0)
    half.until(700)
    assert half.states() == ["online", "disconnecting", "offline", "connecting", "online"]
    assert half.watch.loss == 0, "that of the target that counts"


def test_as_many_targets_must_answer_as_the_file_says() -> None:
    dead = ip_address("192.0.2.1")
    half = day(settings(2, rule=Rule(2)), lambda now, target: float(target.address == dead and now > 100))
    half.until(110)
    assert half.states()[-1] == "offline"


def test_loss_above_the_threshold_gives_a_link_up_that_still_answers() -> None:
    lossy = day(settings(down=100, loss=Band(0.3, 0.1)), lambda now, _target: 0.45 if now > 100 else 0.0, seed=3)
    lossy.until(400)
    at, state, why = lossy.changes[1]
    assert (state, "of the probes are lost" in why) == ("disconnecting", True)
    assert at > 110, "after some packets, not after one"


def test_latency_has_two_thresholds_and_between_them_nothing_changes() -> None:
    times = {0: 0.02, 100: 0.3, 300: 0.17, 500: 0.05}
    slow = day(
        settings(latency_s=Band(0.25, 0.1), window=10),
        lambda _now, _target: 0.0,
        rtt_s=lambda now: next(rtt for at, rtt in reversed(times.items()) if now >= at),
    )
    slow.until(700)
    moments = [(round(at, -2), state) for at, state, _why in slow.changes if state in ("online", "offline")]
    assert moments == [(0, "online"), (100, "offline"), (500, "online")]


def test_carrier_and_address_need_no_probe() -> None:
    link = day(settings(), lambda _now, _target: 0.0)
    link.until(10)
    link.see(Observation.NO_CARRIER, "eth0 has no carrier")
    assert (link.watch.state, link.watch.why, link.watch.next_deadline()) == (
        State.OFFLINE,
        "eth0 has no carrier",
        None,
    )
    link.see(Observation.GONE, "eth0 has no address")
    assert (link.watch.state, link.watch.why) == (State.DISABLED, "eth0 has no address")
    link.see(Observation.READY)
    link.until(30)
    assert link.states() == ["online", "offline", "disabled", "connecting", "online"]


def test_another_address_has_to_prove_itself() -> None:
    link = day(settings(), lambda _now, _target: 0.0)
    link.until(10)
    link.see(Observation.READY, fresh=True)
    assert link.states() == ["online", "disabled", "connecting"]
    link.see(Observation.READY)
    link.until(25)
    assert link.states()[-1] == "online"


def test_without_probes_the_link_decides_and_nothing_is_asked() -> None:
    link = day(settings(0), lambda _now, _target: 0.0)
    link.see(Observation.NO_CARRIER)
    link.see(Observation.READY)
    assert link.states() == ["online", "offline", "online"]
    assert (link.probes, link.watch.next_deadline(), link.watch.loss) == ([], None, None)


@pytest.mark.parametrize("before", [State.OFFLINE, State.CONNECTING, State.DISCONNECTING])
def test_a_restart_goes_on_with_what_was_known(before: State) -> None:
    link = Day(Watch(settings(), 0.0, before), lambda _now, _target: 1.0)
    link.see(Observation.READY)
    assert link.watch.state is before


def test_answers_that_come_late_or_twice_count_for_nothing() -> None:
    watch = Watch(settings(), 0.0)
    link = Day(watch, lambda _now, _target: 1.0)
    link.see(Observation.READY)
    link.until(3)
    before = watch.health
    assert watch.receive(Answered(1), 3.0) == []
    assert watch.receive(Answered(60000), 3.0) == []
    assert watch.health == before


def test_numbers_of_probes_fit_sixteen_bits() -> None:
    link = day(settings(interval_s=0.1), lambda _now, _target: 0.0)
    link.until(7000)
    assert len(link.probes) > 1 << 16
    assert link.states() == ["online"]


def test_a_round_is_over_as_soon_as_enough_is_known() -> None:
    made = Round(3, Rule(2), 0.0)
    assert made.answered(0) is False
    assert made.verdict is None
    made.missed(1)
    assert made.verdict is None
    made.missed(2)
    assert made.verdict is False


def test_a_target_reads_as_an_operator_writes_it() -> None:
    targets = (Target(ip_address("192.0.2.1")), Target(ip_address("192.0.2.1"), 443))
    assert [str(one) for one in (*targets, Target(ip_address("2001:db8::1"), 53))] == [
        "192.0.2.1",
        "192.0.2.1:443",
        "[2001:db8::1]:53",
    ]
