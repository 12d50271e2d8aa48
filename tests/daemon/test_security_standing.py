"""What stands, and what of it is too much: ups, downs, duplicates by the fixed rule on both ends, empty SAs."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest
from security_cases import HIGH, LOW, OTHER, PRIVATE, child, sa, terminated, up

from dmvpn.daemon.duplicates import DEFERENCE_S, SETTLE_S, TOGETHER_S
from dmvpn.daemon.orders import Down, Terminate
from dmvpn.daemon.security import CHILDLESS_S, CONFIRMED_S, Security, connection_name
from dmvpn.daemon.standing import ALIVE, STANDING, standing_peers
from dmvpn.linux.vici_client import IkeSa


@pytest.mark.parametrize(
    ("selector", "peers"),
    [
        pytest.param("100.64.0.12/32[gre]", {HIGH}, id="as charon writes it"),
        pytest.param("100.64.0.12/32", {HIGH}, id="any protocol"),
        pytest.param("100.64.0.12", {HIGH}, id="no length"),
        pytest.param("100.64.0.12[gre]", {HIGH}, id="no length, a protocol"),
        pytest.param("100.64.0.0/16[gre]", set(), id="wider than one router"),
        pytest.param("dynamic[gre]", set(), id="dynamic"),
        pytest.param("", set(), id="empty"),
        pytest.param("fd00::12/128[gre]", {"fd00::12"}, id="IPv6"),
        pytest.param("fd00::/64[gre]", set(), id="an IPv6 range"),
    ],
)
def test_a_peer_is_known_by_an_exact_selector_alone(selector: str, peers: set[object]) -> None:
    found = standing_peers(sa("1", children=(child(selector=selector),)), LOW, None)
    assert {str(peer) for peer in found} == {str(peer) for peer in peers}


@pytest.mark.parametrize("state", ["CREATED", "CONNECTING", "PASSIVE", "REKEYED", "DELETING", "DESTROYING"])
def test_an_ike_sa_in_another_state_carries_nothing(state: str) -> None:
    assert state not in ALIVE
    assert standing_peers(sa("1", state=state), LOW, None) == set()


@pytest.mark.parametrize("state", ["CREATED", "ROUTED", "INSTALLING", "RETRYING", "DELETING", "DELETED", "DESTROYING"])
def test_a_child_in_another_state_carries_nothing(state: str) -> None:
    assert state not in STANDING
    assert standing_peers(sa("1", children=(child(state=state),)), LOW, None) == set()


@pytest.mark.parametrize("ike_state", sorted(ALIVE))
@pytest.mark.parametrize("state", sorted(STANDING))
def test_a_rekeying_interrupts_nothing(ike_state: str, state: str) -> None:
    assert standing_peers(sa("1", state=ike_state, children=(child(state=state),)), LOW, None) == {HIGH}


def test_an_sa_is_reported_up_once_and_down_once() -> None:
    security = Security(LOW)
    assert security.observe([sa("1")], 0.0) == ([up()], [], [])
    assert security.standing(HIGH) == up()
    assert security.observe([sa("1", age_s=11.0)], 10.0) == ([], [], [])
    assert security.observe([], 20.0) == ([], [], [])
    assert security.next_settle() == 20.0 + CONFIRMED_S
    assert security.observe([], 20.0 + CONFIRMED_S) == ([], [Down(HIGH, "no SA stands")], [])
    assert security.observe([], 30.0) == ([], [], [])


@pytest.mark.parametrize(
    "between",
    [
        pytest.param([], id="neither of them"),
        pytest.param([sa("1", state="REKEYED", children=())], id="the old one without its children"),
        pytest.param([sa("2", state="CONNECTING", children=())], id="the new one without any yet"),
    ],
)
def test_an_sa_that_is_rekeyed_while_charon_tells_of_it_is_not_gone(between: list[IkeSa]) -> None:
    security = Security(LOW)
    security.observe([sa("1")], 0.0)
    ups, downs, _ = security.observe(between, 10.0)
    assert (ups, downs, security.standing(HIGH)) == ([], [], up())
    assert security.observe([sa("2")], 10.0 + CONFIRMED_S) == ([], [], [])
    # What is missed later is another absence.
    assert security.observe([], 20.0)[1] == []


def test_a_peer_that_moves_is_reported_up_from_its_new_place() -> None:
    security = Security(LOW)
    security.observe([sa("1")], 0.0)
    assert security.observe([sa("1", remote=PRIVATE)], 1.0) == ([up(remote=PRIVATE)], [], [])


def test_a_rekeyed_ike_sa_is_neither_down_nor_up() -> None:
    security = Security(LOW)
    security.observe([sa("1", age_s=7000)], 0.0)
    assert security.observe([sa("1", state="REKEYED", children=(), name="ours"), sa("2", age_s=0)], 1.0) == ([], [], [])


# ---------------------------------------------------------------- duplicates


def pair_seen_by(own: IPv4Address, started_by: dict[str, IPv4Address]) -> list[IkeSa]:
    """The same SAs in the list of either end: who started them differs by the end, nothing else."""
    peer = HIGH if own == LOW else LOW
    return [sa(f"{own}#{key}", spi=key, peer=peer, initiator=starter == own) for key, starter in started_by.items()]


@pytest.mark.parametrize(
    ("started_by", "kept"),
    [
        pytest.param({"a": LOW, "b": HIGH}, {"a"}, id="one each"),
        pytest.param({"b": HIGH, "a": LOW}, {"a"}, id="one each, listed the other way round"),
        pytest.param({"a": LOW, "b": HIGH, "c": HIGH}, {"a"}, id="the higher started two"),
    ],
)
def test_both_ends_end_the_same_sa_without_talking(started_by: dict[str, IPv4Address], kept: set[str]) -> None:
    for own in (LOW, HIGH):
        security = Security(own)
        listed = pair_seen_by(own, started_by)
        security.observe(listed, 0.0)
        _, downs, orders = security.observe(listed, SETTLE_S if own == LOW else DEFERENCE_S)
        assert downs == []
        assert set(started_by) - {one.partition("#")[2] for one in terminated(orders)} == kept


@pytest.mark.parametrize(
    ("before", "after", "ended"),
    [
        pytest.param({"a": 5, "b": 0}, {"a": 9, "b": 0}, "b", id="through the one that would stay"),
        pytest.param({"a": 5, "b": 1}, {"a": 5, "b": 7}, "a", id="through the other since it came up"),
        pytest.param({"a": 5, "b": 0}, {"a": 5, "b": 0}, "b", id="through neither"),
    ],
)
def test_the_lower_end_keeps_the_sa_that_it_sends_through(
    before: dict[str, int], after: dict[str, int], ended: str
) -> None:
    """charon takes its own SA away when the peer has confirmed, what was sent into it meanwhile is lost."""

    def listed(sent: dict[str, int]) -> list[IkeSa]:
        both = pair_seen_by(LOW, {"a": LOW, "b": HIGH})
        return [replace(one, children=(replace(one.children[0], packets_out=sent[one.initiator_spi]),)) for one in both]

    security = Security(LOW)
    security.observe(listed(before), 0.0)
    assert terminated(security.observe(listed(after), SETTLE_S)[2]) == [f"{LOW}#{ended}"]


def test_the_higher_end_leaves_the_choice_to_the_lower() -> None:
    security = Security(HIGH)
    both = pair_seen_by(HIGH, {"a": LOW, "b": HIGH})
    security.observe(both, 0.0)
    assert security.next_settle() == DEFERENCE_S
    assert security.observe(both, DEFERENCE_S - 0.01)[2] == []
    assert terminated(security.observe(both, DEFERENCE_S)[2]) == [f"{HIGH}#b"]


def test_duplicates_may_settle_first_so_that_both_ends_have_seen_both() -> None:
    security = Security(LOW)
    both = pair_seen_by(LOW, {"a": LOW, "b": HIGH})
    assert security.next_settle() is None
    assert security.observe(both, 100.0)[2] == []
    assert security.next_settle() == 100.0 + SETTLE_S
    assert security.observe(both, 100.0 + SETTLE_S - 0.01)[2] == []
    assert len(security.observe(both, 100.0 + SETTLE_S)[2]) == 1


def test_a_duplicate_that_went_by_itself_starts_no_clock() -> None:
    security = Security(LOW)
    both = pair_seen_by(LOW, {"a": LOW, "b": HIGH})
    security.observe(both, 0.0)
    security.observe(both[:1], 1.0)
    assert security.next_settle() is None
    assert security.observe(both, SETTLE_S + 1)[2] == []


def test_the_pair_stays_up_while_its_duplicate_goes() -> None:
    security = Security(LOW)
    both = pair_seen_by(LOW, {"a": LOW, "b": HIGH})
    assert security.observe(both, 0.0)[0] == [up()]
    for now in (SETTLE_S, SETTLE_S + 0.1, SETTLE_S + 10):
        ups, downs, _ = security.observe(both, now)
        assert (ups, downs) == ([], [])
    assert security.observe(both[:1], SETTLE_S + 11) == ([], [], [])


def test_a_duplicate_is_ended_once_however_long_charon_lists_it() -> None:
    security = Security(LOW)
    both = pair_seen_by(LOW, {"a": LOW, "b": HIGH})
    security.observe(both, 0.0)
    assert terminated(security.observe(both, SETTLE_S)[2]) == [f"{LOW}#b"]
    assert security.observe(both, SETTLE_S + 1)[2] == []
    assert security.next_settle() is None


def test_of_two_that_one_end_started_the_newest_stays() -> None:
    security = Security(LOW)
    listed = [sa("old", age_s=500), sa("new", age_s=3)]
    security.observe(listed, 0.0)
    assert security.observe(listed, SETTLE_S)[2] == [Terminate("old", "duplicate")]


def test_both_ends_keep_the_same_of_two_that_one_end_started() -> None:
    kept = {}
    for own, order in ((LOW, ("a", "b")), (HIGH, ("b", "a"))):
        security = Security(own)
        listed = pair_seen_by(own, dict.fromkeys(order, LOW))
        security.observe(listed, 0.0)
        ended = terminated(security.observe(listed, DEFERENCE_S)[2])
        kept[own] = {"a", "b"} - {one.partition("#")[2] for one in ended}
    assert kept[LOW] & kept[HIGH], "each ended the other's: none is left"


@pytest.mark.parametrize("starter", [LOW, HIGH])
@pytest.mark.parametrize("old_starter", [LOW, HIGH])
def test_an_sa_made_long_after_another_replaces_it_whoever_started_either(
    starter: IPv4Address, old_starter: IPv4Address
) -> None:
    """Its starter had lost the old one, so only the other end has both."""
    security = Security(LOW)
    old = sa("old", initiator=old_starter == LOW, age_s=100)
    new = sa("new", initiator=starter == LOW, age_s=0)
    security.observe([old], 0.0)
    security.observe([old, new], TOGETHER_S + 1)
    assert terminated(security.observe([old, new], TOGETHER_S + 1 + SETTLE_S)[2]) == ["old"]


def test_a_rekeyed_sa_is_as_old_as_the_one_it_replaces() -> None:
    """The peer's charon dies right after a rekeying, and its new SA must not be taken for a duplicate made together."""
    security = Security(LOW)
    security.observe([sa("old", age_s=100)], 0.0)
    security.observe([sa("old", age_s=110, state="DELETING", children=()), sa("rekeyed", age_s=0)], 10.0)
    both = [sa("rekeyed", age_s=0), sa("after death", initiator=False, age_s=0)]
    security.observe(both, 10.5)
    assert terminated(security.observe(both, 10.5 + SETTLE_S)[2]) == ["rekeyed"]


def test_duplicates_of_one_peer_say_nothing_about_another() -> None:
    security = Security(LOW)
    listed = [*pair_seen_by(LOW, {"a": LOW, "b": HIGH}), sa("other", peer=OTHER)]
    security.observe(listed, 0.0)
    assert terminated(security.observe(listed, SETTLE_S)[2]) == [f"{LOW}#b"]


# ---------------------------------------------------------------- empty and left-over SAs


@pytest.mark.parametrize(
    ("state", "age_s", "ended"),
    [
        pytest.param("ESTABLISHED", CHILDLESS_S, False, id="being made"),
        pytest.param("ESTABLISHED", CHILDLESS_S + 1, True, id="its child was refused"),
        pytest.param("CONNECTING", CHILDLESS_S + 1, False, id="not up yet"),
        pytest.param("DELETING", CHILDLESS_S + 1, False, id="going already"),
    ],
)
def test_an_ike_sa_without_a_child_is_ended_after_a_while(state: str, age_s: float, *, ended: bool) -> None:
    security = Security(LOW)
    orders = security.observe([sa("1", state=state, age_s=age_s, children=())], 0.0)[2]
    assert orders == ([Terminate("1", "its child was refused")] if ended else [])


def test_attempts_at_other_candidates_end_when_one_stands() -> None:
    security = Security(LOW)
    trying = sa("2", state="CONNECTING", name=connection_name(HIGH, 1), age_s=0, children=())
    elsewhere = sa("3", state="CONNECTING", name=connection_name(OTHER, 0), age_s=0, children=())
    assert security.observe([trying, elsewhere], 0.0)[2] == []
    listed = [sa("1"), trying, elsewhere]
    assert security.observe(listed, 1.0)[2] == [], "its last answer may be on the way"
    assert security.next_settle() == 1.0 + SETTLE_S
    assert security.observe(listed, 1.0 + SETTLE_S)[2] == [Terminate("2", "another candidate answered")]
    assert security.observe(listed, 2.0 + SETTLE_S)[2] == []
    assert security.next_settle() is None


@pytest.mark.parametrize(
    ("own", "peer", "ended"),
    [
        pytest.param(LOW, HIGH, [], id="ours would be kept"),
        pytest.param(HIGH, LOW, ["2"], id="ours would be ended"),
    ],
)
def test_our_attempt_ends_for_the_peers_sa_only_if_it_would_be_the_duplicate(
    own: IPv4Address, peer: IPv4Address, ended: list[str]
) -> None:
    security = Security(own)
    trying = sa("2", peer=peer, state="CONNECTING", age_s=0, children=())
    listed = [sa("1", peer=peer, name="own", initiator=False), trying]
    security.observe(listed, 1.0)
    assert terminated(security.observe(listed, 1.0 + SETTLE_S)[2]) == ended


@pytest.mark.parametrize(("own", "peer"), [(LOW, HIGH), (HIGH, LOW)], ids=["the lower end", "the higher end"])
def test_an_attempt_that_nobody_answered_ends_at_once(own: IPv4Address, peer: IPv4Address) -> None:
    """Its next packet might get through the NAT that this SA has opened, and make a duplicate."""
    security = Security(own)
    trying = sa("2", peer=peer, state="CONNECTING", answered=False, age_s=0, children=())
    listed = [sa("1", peer=peer, name="own", initiator=False), trying]
    assert terminated(security.observe(listed, 1.0)[2]) == ["2"]
    assert security.observe(listed, 1.1)[2] == []


def test_an_attempt_of_the_peer_is_not_ours_to_end() -> None:
    security = Security(LOW)
    theirs = sa("2", state="CONNECTING", name="from-anybody", initiator=False, age_s=0, children=())
    security.observe([sa("1"), theirs], 1.0)
    assert security.observe([sa("1"), theirs], 1.0 + SETTLE_S)[2] == []


FOREIGN = IPv4Address("192.0.2.12")
TRANSPORT = IPv4Network("100.64.0.0/16")


@pytest.mark.parametrize("own", [LOW, HIGH], ids=["the lower end", "the higher end"])
def test_of_two_sas_with_a_foreign_router_the_one_that_we_made_goes(own: IPv4Address) -> None:
    """Its policies ask for the reqid of its trap, which the one that we made does not have there."""
    security = Security(own, transport=TRANSPORT)
    pair = [sa("1", peer=FOREIGN), sa("2", peer=FOREIGN, initiator=False, name="foreign")]
    ups, downs, orders = security.observe(pair, 0.0)
    assert ([one.nbma for one in ups], downs, orders) == ([FOREIGN], [], [])
    assert security.next_settle() == SETTLE_S
    assert terminated(security.observe(pair, SETTLE_S)[2]) == ["1"]
    assert terminated(security.observe(pair[1:], 2 * SETTLE_S)[2]) == []


@pytest.mark.parametrize("initiator", [True, False], ids=["ours", "theirs"])
def test_two_sas_with_a_foreign_router_of_one_maker_are_left_alone(*, initiator: bool) -> None:
    security = Security(LOW, transport=TRANSPORT)
    pair = [sa(one, peer=FOREIGN, initiator=initiator, name="foreign") for one in ("1", "2")]
    security.observe(pair, 0.0)
    assert terminated(security.observe(pair, 3600.0)[2]) == []
    assert security.next_settle() is None


@pytest.mark.parametrize(("answered", "when"), [(False, 0.0), (True, SETTLE_S)], ids=["unanswered", "answered"])
def test_an_attempt_at_a_foreign_router_ends_when_its_own_stands(*, answered: bool, when: float) -> None:
    security = Security(LOW, transport=TRANSPORT)
    name = connection_name(FOREIGN, 0)
    trying = sa("2", peer=FOREIGN, state="CONNECTING", answered=answered, age_s=0, children=(), name=name)
    listed = [sa("1", peer=FOREIGN, initiator=False, name="foreign"), trying]
    first = terminated(security.observe(listed, 0.0)[2])
    assert (first or terminated(security.observe(listed, when)[2])) == ["2"]
    assert bool(first) is not answered


def test_two_sas_with_one_of_ours_are_not() -> None:
    security = Security(LOW, transport=TRANSPORT)
    pair = [sa("1"), sa("2", initiator=False)]
    security.observe(pair, 0.0)
    assert terminated(security.observe(pair, SETTLE_S)[2]) == ["2"]
