"""Snapshots, restarts, and octets that want to make the engine raise."""

import json
from ipaddress import ip_address
from random import Random

import pytest
from engine_bench import (
    HUB_NBMA,
    OTHER,
    OWN,
    OWN_NBMA,
    PEER,
    PEER_HOST,
    PEER_LAN,
    PEER_NBMA,
    SPOKE_SETTINGS,
    Bench,
    hub_with_clients,
    names,
    of,
    spoke,
)
from hypothesis import given, settings
from hypothesis import strategies as some

from dmvpn.errors import Fault
from dmvpn.nhrp.engine import SKIPPED_IDS, Engine
from dmvpn.nhrp.events import (
    BindNeighbour,
    Endpoint,
    InstallRoute,
    Received,
    SecurityUp,
    UnbindNeighbour,
)
from dmvpn.nhrp.snapshot import SavedBinding, SavedHub, SavedShortcut, Snapshot

SNAPSHOT = Snapshot(
    request_id=41,
    bindings=(SavedBinding(PEER, PEER_NBMA, PEER_NBMA, True, 300.0),),  # noqa: FBT003
    shortcuts=(SavedShortcut(PEER_HOST, PEER_LAN, PEER, PEER_NBMA, True, False, 600.0, 100.0),),  # noqa: FBT003
    hubs=(SavedHub(HUB_NBMA, Endpoint(ip_address("203.0.113.5"), 24500)), SavedHub(OTHER, None)),
)


def test_a_snapshot_is_json_and_comes_back_the_same() -> None:
    assert Snapshot.from_text(SNAPSHOT.to_text()) == SNAPSHOT
    assert json.loads(SNAPSHOT.to_text())["hubs"][0]["observed"]["port"] == 24500


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param(SNAPSHOT.to_text()[:-9], id="half"),
        pytest.param("[]", id="not an object"),
        pytest.param('{"version": 1}', id="empty"),
        pytest.param('{"version": 2}', id="another version"),
        pytest.param(SNAPSHOT.to_text().replace("10.255.1.12", "10.255.1.300"), id="not an address"),
        pytest.param('{"version": 1, "request_id": null, "bindings": [], "shortcuts": [], "hubs": []}', id="no number"),
    ],
)
def test_what_is_no_snapshot_is_a_fault(text: str) -> None:
    with pytest.raises(Fault, match="start without it"):
        Snapshot.from_text(text)


def test_a_restart_binds_and_installs_again_at_once() -> None:
    bench = Bench(SPOKE_SETTINGS, restored=SNAPSHOT)
    actions = bench.start()
    assert InstallRoute(PEER_LAN, PEER, None) in actions
    assert [action for action in actions if isinstance(action, BindNeighbour)][-1].nbma == HUB_NBMA
    assert bench.engine.snapshot(bench.now).request_id > 41 + SKIPPED_IDS - 1
    row = bench.view().shortcuts[0]
    assert (row.state, row.expires_s) == ("up", 100.0)


def test_what_was_adopted_is_authorised_again_when_its_sa_is_reported() -> None:
    bench = Bench(SPOKE_SETTINGS, restored=SNAPSHOT)
    bench.start()
    assert "Authorise" in names(bench.up(PEER_NBMA))
    assert bench.view().shortcuts[0].state == "up"
    bench = Bench(SPOKE_SETTINGS, restored=SNAPSHOT)
    bench.start()
    bench.refuses = {str(PEER_LAN)}
    assert names(bench.up(PEER_NBMA))[-2:] == ["Authorise", "RemoveRoute"]
    assert bench.view().shortcuts[0].why == "not-authorised"


def test_a_hub_takes_its_clients_over_and_unbinds_those_whose_sa_is_not_reported() -> None:
    before = hub_with_clients()
    after = Bench(before.settings, restored=before.engine.snapshot(before.now))
    assert len(of(after.start(), BindNeighbour)) == 2
    after.tell(SecurityUp(PEER_NBMA, None))
    assert of(after.wait(10.1), UnbindNeighbour) == [UnbindNeighbour(OWN)]


def test_what_ran_out_while_nobody_ran_is_left_out() -> None:
    from dataclasses import replace

    old = replace(
        SNAPSHOT,
        bindings=(replace(SNAPSHOT.bindings[0], remaining_s=0.0),),
        shortcuts=(replace(SNAPSHOT.shortcuts[0], remaining_s=-1.0),),
        hubs=(),
    )
    bench = Bench(SPOKE_SETTINGS, restored=old)
    assert names(bench.start()) == ["WantSecurity"]


def test_without_a_snapshot_the_first_id_is_random() -> None:
    ids = {Engine(SPOKE_SETTINGS, Random(seed), now=0.0).snapshot(0.0).request_id for seed in range(5)}
    assert len(ids) == 5


# ---------------------------------------------------------------- hostile octets


@settings(derandomize=True, max_examples=300, deadline=None)
@given(some.binary(max_size=200), some.sampled_from([HUB_NBMA, PEER_NBMA, None]))
def test_no_octets_make_the_engine_raise(octets: bytes, sender: object) -> None:
    bench = spoke()
    bench.tell(Received(octets, sender))
    assert sum(bench.view().dropped.values()) >= 1


PACKETS = [bytes.fromhex(action.octets.hex()) for action in hub_with_clients().said if hasattr(action, "octets")]


@settings(derandomize=True, max_examples=500, deadline=None)
@given(some.sampled_from(PACKETS), some.data(), some.sampled_from([OWN_NBMA, PEER_NBMA, None]))
def test_no_mutated_packet_makes_it_raise(octets: bytes, data: some.DataObject, sender: object) -> None:
    """The checksum is made right again, so that the mutation gets past it."""
    from dmvpn.nhrp.checksum import checksum

    mutated = bytearray(octets)
    for _ in range(data.draw(some.integers(1, 4))):
        mutated[data.draw(some.integers(0, len(mutated) - 1))] = data.draw(some.integers(0, 255))
    mutated[12:14] = b"\x00\x00"
    mutated[12:14] = checksum(bytes(mutated)).to_bytes(2, "big")
    for bench in (hub_with_clients(), spoke()):
        bench.tell(Received(bytes(mutated), sender))
        bench.wait(30.0)
