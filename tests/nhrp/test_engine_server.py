"""nhrp.md 3.2: the server's side of registration, phase 1's whole job. Binding x request."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from engine_bench import (
    CANDIDATES,
    HUB,
    HUB_NBMA,
    OTHER,
    OTHER_NBMA,
    OVERLAY,
    OWN,
    OWN_NBMA,
    PEER,
    PEER_NBMA,
    Bench,
    endpoint,
    entry,
    first_sent,
    happened,
    hub,
    names,
    of,
    reasons,
    registration,
    sent,
)

from dmvpn.nhrp.candidates import Candidates
from dmvpn.nhrp.cie import Cie
from dmvpn.nhrp.events import (
    Action,
    Authorise,
    BindNeighbour,
    DropReason,
    Forget,
    HubSetting,
    UnbindNeighbour,
)
from dmvpn.nhrp.extensions import CiscoNat, ForwardTransit, ResponderAddress, Unknown
from dmvpn.nhrp.numbers import Kind
from dmvpn.nhrp.packet import Packet
from dmvpn.nhrp.registration_server import PENDING_LIMIT

UNIQUE, SHARED = 0x8002, 0x0002
OK, PROHIBITED, RESOURCES, TAKEN = 0, 4, 5, 14


def register(
    bench: Bench, nbma: object = OWN_NBMA, flags: int = UNIQUE, request_id: int = 1, **changed: object
) -> list[Action]:
    return bench.packet(registration(OWN, nbma, request_id, flags, **changed), nbma)


def code_of(actions: list[Action]) -> int:
    reply = first_sent(actions)
    assert reply.kind is Kind.REGISTRATION_REPLY
    return reply.cies[0].code


def nothing(bench: Bench) -> None:
    bench.up(OWN_NBMA, OTHER_NBMA)


def bound(bench: Bench, flags: int = UNIQUE) -> None:
    nothing(bench)
    register(bench, flags=flags)


BIND, REPLY = "BindNeighbour", "REGISTRATION_REPLY"


@pytest.mark.parametrize(
    ("held", "nbma", "flags", "allowed", "code", "does"),
    [
        pytest.param(None, OWN_NBMA, UNIQUE, True, OK, [BIND, REPLY], id="free: allowed"),
        pytest.param(None, OWN_NBMA, UNIQUE, False, PROHIBITED, [REPLY], id="free: not authorised"),
        pytest.param(UNIQUE, OWN_NBMA, UNIQUE, True, OK, [REPLY], id="held by it: refreshed, no flap"),
        pytest.param(UNIQUE, OWN_NBMA, SHARED, True, OK, [REPLY], id="held by it: unique no more"),
        pytest.param(UNIQUE, OWN_NBMA, UNIQUE, False, PROHIBITED, [REPLY], id="held by it: authorised no more"),
        pytest.param(UNIQUE, OTHER_NBMA, UNIQUE, True, TAKEN, [REPLY], id="unique elsewhere: code 14"),
        pytest.param(UNIQUE, OTHER_NBMA, SHARED, True, OK, [BIND, REPLY], id="unique elsewhere, asks without U"),
        pytest.param(SHARED, OTHER_NBMA, UNIQUE, True, OK, [BIND, REPLY], id="shared elsewhere: moves"),
        pytest.param(SHARED, OTHER_NBMA, UNIQUE, False, PROHIBITED, [REPLY], id="shared elsewhere: not authorised"),
    ],
)
def test_binding_and_request(
    held: int | None,
    nbma: object,
    flags: int,
    allowed: bool,  # noqa: FBT001
    code: int,
    does: list[str],
) -> None:
    bench = hub()
    if held is None:
        nothing(bench)
    else:
        bound(bench, held)
    bench.refuses = set() if allowed else {str(OWN)}
    bench.up(nbma)  # perhaps with another certificate: what was allowed before is asked about again
    actions = register(bench, nbma, flags, request_id=2)
    assert names(actions) == ["Authorise", *does]
    assert code_of(actions) == code
    holding = first_sent(actions).cies[0].holding_time_s
    assert holding == (600 if code == OK else 0)


def test_the_reply_waits_for_the_verdict_and_nothing_is_bound_before_it() -> None:
    bench = hub()
    bench.up(OWN_NBMA)
    bench.silent = True
    assert names(register(bench)) == ["Authorise"]
    assert of(bench.said, Authorise) == [Authorise(1, OWN_NBMA, OWN, None)]
    assert names(bench.answer_all()) == [BIND, REPLY]


def test_a_repeated_request_whose_verdict_is_open_is_a_duplicate() -> None:
    bench = hub()
    bench.silent = True
    register(bench)
    assert reasons(register(bench)) == [DropReason.DUPLICATE]
    assert names(bench.answer_all()) == [BIND, REPLY]


def test_a_verdict_that_never_comes_is_a_refusal() -> None:
    bench = hub()
    bench.silent = True
    register(bench)
    actions = bench.wait(10.0)
    assert code_of(actions) == PROHIBITED
    assert reasons(actions) == [DropReason.NOT_AUTHORISED]
    assert bench.answer_all() == [], "late"


def test_the_reply_says_where_the_clients_ike_comes_from() -> None:
    bench = hub()
    bench.up(OWN_NBMA)
    reply = first_sent(register(bench))
    assert reply.candidates() == Candidates(observed=endpoint(OWN_NBMA))
    responder = reply.extension(ResponderAddress)
    assert responder is not None
    assert responder.cie is not None
    assert (responder.cie.nbma, responder.cie.protocol) == (HUB_NBMA, HUB)
    assert (reply.flags, reply.request_id, reply.source_protocol) == (UNIQUE, 1, OWN)


def test_a_foreign_client_gets_no_candidates() -> None:
    reply = first_sent(hub().packet(replace(registration(OWN, OWN_NBMA), extensions=()), OWN_NBMA))
    assert reply.candidates() is None
    assert reply.extensions == ()


def test_a_client_behind_nat_is_bound_where_it_comes_from_and_told_so() -> None:
    bench = hub()
    inside = ip_address("192.168.1.2")
    actions = bench.packet(registration(OWN, inside), OWN_NBMA)
    assert of(actions, BindNeighbour) == [BindNeighbour(OWN, OWN_NBMA)]
    nat = first_sent(actions).extension(CiscoNat)
    assert nat is not None
    assert [(cie.nbma, cie.protocol) for cie in nat.cies] == [(OWN_NBMA, OWN)]
    (row,) = [row for row in bench.view().bindings if row.protocol == OWN]
    assert (row.nbma, row.claimed_nbma) == (OWN_NBMA, inside)


def test_behind_another_server_nat_cannot_be_seen() -> None:
    bench = hub()
    packet = registration(OWN, ip_address("192.168.1.2"))
    packet = packet.with_extension(ForwardTransit((entry(nbma=PEER_NBMA, protocol=PEER),)))
    nat = first_sent(bench.packet(packet, OWN_NBMA)).extension(CiscoNat)
    assert nat is not None
    assert nat.cies == ()


V6 = ip_address("fd00:255:1::11")
V6_LINK_LOCAL = ip_address("fe80::11")
V6_HUB = ip_address("fd00:255:1::1")


@pytest.mark.parametrize(
    ("cies", "refuses", "codes"),
    [
        pytest.param((entry(), entry(protocol=PEER)), set(), [OK, OK], id="two addresses"),
        pytest.param((entry(), entry(protocol=PEER)), {str(PEER)}, [OK, PROHIBITED], id="one of two refused"),
        pytest.param((entry(prefix=0),), set(), [OK], id="prefix 0 is a host"),
        pytest.param((entry(prefix=32),), set(), [OK], id="prefix 32 is a host"),
        pytest.param((entry(prefix=24),), set(), [PROHIBITED], id="a network"),
        pytest.param((entry(protocol=HUB),), set(), [PROHIBITED], id="the server's own address"),
        pytest.param((entry(holding=0),), set(), [OK], id="no holding time"),
    ],
)
def test_entries_of_one_request(cies: tuple[Cie, ...], refuses: set[str], codes: list[int]) -> None:
    bench = hub()
    bench.refuses = refuses
    reply = first_sent(register(bench, cies=cies))
    assert [cie.code for cie in reply.cies] == codes


def test_ios_registers_its_link_local_address_beside_the_global_one() -> None:
    bench = hub(protocol=(HUB, V6_HUB), overlay=(OVERLAY, ip_network("fd00:255:1::/64")))
    cies = (entry(prefix=128, nbma=OWN_NBMA, protocol=V6), entry(prefix=128, nbma=OWN_NBMA, protocol=V6_LINK_LOCAL))
    packet = Packet(Kind.REGISTRATION_REQUEST, 255, UNIQUE, 1, OWN_NBMA, V6, V6_HUB, cies)
    actions = bench.packet(packet, OWN_NBMA)
    assert of(actions, BindNeighbour) == [BindNeighbour(V6, OWN_NBMA), BindNeighbour(V6_LINK_LOCAL, OWN_NBMA)]


@pytest.mark.parametrize(
    ("changed", "reason", "answer"),
    [
        pytest.param({"cies": ()}, DropReason.MALFORMED, Kind.ERROR_INDICATION, id="no entry"),
        pytest.param({"cies": (entry(),) * 17}, DropReason.MALFORMED, Kind.ERROR_INDICATION, id="too many entries"),
        pytest.param(
            {"extensions": (Unknown(77, compulsory=True, value=b""),)},
            DropReason.COMPULSORY_EXTENSION,
            Kind.ERROR_INDICATION,
            id="compulsory and unknown",
        ),
        pytest.param(
            {"destination_protocol": ip_address("192.0.2.9")},
            DropReason.UNREACHABLE,
            Kind.ERROR_INDICATION,
            id="for a server that is not there",
        ),
    ],
)
def test_requests_that_are_refused_as_a_whole(changed: dict[str, object], reason: DropReason, answer: Kind) -> None:
    actions = register(hub(), **changed)
    assert reasons(actions) == [reason]
    assert sent(actions) == [(answer, OWN_NBMA)]


@pytest.mark.parametrize("to", [OWN, OVERLAY.broadcast_address], ids=["itself: RFC", "the broadcast: OpenNHRP"])
def test_a_client_that_does_not_know_its_server_is_served(to: object) -> None:
    assert code_of(register(hub(), destination_protocol=to)) == OK


def test_hubs_register_with_each_other_and_what_the_settings_say_stands() -> None:
    other = HubSetting("hub2", (OTHER,), OTHER_NBMA, ours=True)
    bench = hub(hubs=(other,))
    bench.up(OTHER_NBMA)
    actions = bench.packet(registration(OTHER, OTHER_NBMA), OTHER_NBMA)
    assert code_of(actions) == OK
    assert of(actions, BindNeighbour) == []
    assert code_of(bench.packet(registration(OTHER, PEER_NBMA), PEER_NBMA)) == PROHIBITED


# ---------------------------------------------------------------- life of a binding


def test_a_binding_expires_at_its_holding_time() -> None:
    bench = hub()
    bound(bench)
    assert happened(bench.wait(599.0)) == []
    actions = bench.wait(1.1)
    assert happened(actions) == ["expired"]
    assert names(actions) == ["UnbindNeighbour"]


def test_a_refresh_moves_the_end() -> None:
    bench = hub()
    bound(bench)
    bench.wait(500.0)
    assert happened(register(bench, request_id=2)) == []
    assert names(bench.wait(599.0)) == []


def test_while_its_sa_is_down_a_client_has_no_neighbour_entry_but_keeps_its_binding() -> None:
    bench = hub()
    bound(bench)
    assert names(bench.down(OWN_NBMA)) == ["UnbindNeighbour"]
    assert names(bench.down(OWN_NBMA)) == []
    assert [row.protocol for row in bench.view().bindings if row.kind == "dynamic"] == [OWN]
    assert names(bench.up(OWN_NBMA)) == ["BindNeighbour"]
    assert names(bench.up(OWN_NBMA)) == []


def test_the_operator_can_drop_a_binding() -> None:
    bench = hub()
    bound(bench)
    assert names(bench.tell(Forget(ip_network("10.255.1.12/32")))) == []
    assert names(bench.tell(Forget(ip_network("10.255.1.11/32")))) == ["UnbindNeighbour"]


def purge(source: object, nbma: object, purged: object, flags: int = 0) -> Packet:
    cie = entry(prefix=ip_network(purged).prefixlen, holding=0, protocol=ip_network(purged).network_address)
    return Packet(Kind.PURGE_REQUEST, 255, flags, 9, nbma, source, HUB, (cie,))


@pytest.mark.parametrize(
    ("sender", "refuses", "flags", "does"),
    [
        pytest.param(OWN_NBMA, set(), 0, ["UnbindNeighbour", "PURGE_REPLY"], id="its own"),
        pytest.param(OWN_NBMA, set(), 0x8000, ["UnbindNeighbour"], id="its own, no reply wanted"),
        pytest.param(OTHER_NBMA, set(), 0x8000, ["Authorise", "UnbindNeighbour"], id="from where it has moved to"),
        pytest.param(OTHER_NBMA, {str(OWN)}, 0x8000, ["Authorise"], id="an impostor"),
    ],
)
def test_a_registration_is_taken_back_by_its_owner_only(
    sender: object, refuses: set[str], flags: int, does: list[str]
) -> None:
    bench = hub()
    bound(bench)
    bench.refuses = refuses
    assert names(bench.packet(purge(OWN, sender, f"{OWN}/32", flags), sender)) == does


def test_a_purge_of_a_network_takes_only_what_its_sender_holds() -> None:
    bench = hub()
    bound(bench)
    bench.packet(registration(PEER, PEER_NBMA), PEER_NBMA)
    actions = bench.packet(purge(PEER, PEER_NBMA, OVERLAY), PEER_NBMA)
    assert of(actions, UnbindNeighbour) == [UnbindNeighbour(PEER)]


def test_a_purge_with_an_unknown_compulsory_extension_is_refused() -> None:
    packet = replace(purge(OWN, OWN_NBMA, f"{OWN}/32"), extensions=(Unknown(77, compulsory=True, value=b""),))
    assert reasons(hub().packet(packet, OWN_NBMA)) == [DropReason.COMPULSORY_EXTENSION]


# ---------------------------------------------------------------- bounds


def test_one_peer_holds_a_bounded_number_of_bindings() -> None:
    bench = hub()
    addresses = list(OVERLAY.hosts())[20:37]
    codes = [code_of(bench.packet(registration(address, OWN_NBMA), OWN_NBMA)) for address in addresses]
    assert codes == [OK] * 16 + [RESOURCES]


def test_open_registrations_are_bounded() -> None:
    bench = hub()
    bench.silent = True
    for number in range(PENDING_LIMIT):
        register(bench, request_id=number)
    assert reasons(register(bench, request_id=PENDING_LIMIT)) == [DropReason.LIMIT]


def test_candidates_of_a_client_are_shown() -> None:
    bench = hub()
    bound(bench)
    (row,) = [row for row in bench.view().bindings if row.protocol == OWN]
    assert (row.public, row.private, row.observed) == (CANDIDATES.public, CANDIDATES.private, endpoint(OWN_NBMA))
