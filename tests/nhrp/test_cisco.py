"""IOS as it is on the wire: a scripted router with its habits, against our engine as hub and as spoke.

Its habits are those of captures of real routers and of Cisco's manuals.
"""

from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
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
    first_sent,
    hub,
    indication,
    names,
    of,
    reasons,
    spoke,
)

from dmvpn.nhrp.checksum import checksum
from dmvpn.nhrp.cie import Cie
from dmvpn.nhrp.events import (
    BindNeighbour,
    DropReason,
    HubSetting,
    InstallRoute,
    Received,
    Send,
    UnbindNeighbour,
    WantSecurity,
)
from dmvpn.nhrp.extensions import (
    CiscoAuthentication,
    CiscoNat,
    Extension,
    ForwardTransit,
    ResponderAddress,
    ReverseTransit,
    VendorPrivate,
)
from dmvpn.nhrp.numbers import CieCode, ErrorCode, Kind
from dmvpn.nhrp.packet import Packet, decode, offending

IOS_HUB = HubSetting("ios", (HUB,), HUB_NBMA, ours=False)
CISCO = bytes.fromhex("00000c")
GROUP = VendorPrivate(CISCO, b"\x01\x08SHAPE_1M")
MTUS = (17912, 17916, 1514)
HOLDING_S = 7200
WHOLE = 32
PUBLIC = ip_address("203.0.113.12")


def cie(**fields: Any) -> Cie:
    """As IOS registers: no addresses, the MTU of a virtual device, preference 255."""
    return Cie(**{
        "code": 0, "prefix_length": WHOLE, "mtu_octets": 17912, "holding_time_s": HOLDING_S, "preference": 255,
        "nbma": None, "nbma_subaddress": b"", "protocol": None, **fields,
    })  # fmt: skip


def server_row(protocol: Any = HUB) -> CiscoNat:
    return CiscoNat((cie(holding_time_s=0, nbma=HUB_NBMA, protocol=protocol),))


def ios_registration(request_id: int = 1, **changed: Any) -> Packet:
    extensions: tuple[Extension, ...] = (ResponderAddress(), ForwardTransit(), ReverseTransit(), server_row())
    packet = Packet(Kind.REGISTRATION_REQUEST, 255, 0x8002, request_id, PEER_NBMA, PEER, HUB, (cie(),), extensions)
    return replace(packet, **changed)


def ready_hub(**settings: Any) -> Bench:
    bench = hub(**settings)
    bench.up(PEER_NBMA)
    return bench


# ---------------------------------------------------------------- an IOS spoke at our hub


@pytest.mark.parametrize("mtu_octets", MTUS)
@pytest.mark.parametrize("prefix_length", [0, WHOLE, 255])
def test_an_entry_without_addresses_is_the_header_s(mtu_octets: int, prefix_length: int) -> None:
    bench = ready_hub()
    packet = ios_registration(cies=(cie(mtu_octets=mtu_octets, prefix_length=prefix_length),))
    actions = bench.packet(packet, PEER_NBMA)
    assert of(actions, BindNeighbour) == [BindNeighbour(PEER, PEER_NBMA)]
    reply = first_sent(actions)
    assert (reply.kind, reply.cies[0].code, reply.cies[0].prefix_length) == (Kind.REGISTRATION_REPLY, 0, prefix_length)
    assert reply.flags == packet.flags
    assert reply.cies[0].mtu_octets == bench.settings.mtu_octets


def test_the_hop_count_is_255_both_ways() -> None:
    reply = first_sent(ready_hub().packet(ios_registration(), PEER_NBMA))
    assert reply.hop_count == 255


def test_an_id_kept_over_repeats_and_refreshes_is_answered_each_time() -> None:
    bench = ready_hub()
    for wait_s in (0.0, 1.0, 2.0, HOLDING_S / 3, HOLDING_S / 3, HOLDING_S / 3):
        bench.wait(wait_s)
        actions = bench.packet(ios_registration(request_id=9), PEER_NBMA)
        assert first_sent(actions).request_id == 9
        assert not reasons(actions)
    (binding,) = [row for row in bench.view().bindings if row.protocol == PEER]
    assert binding.nbma == PEER_NBMA
    bench.wait(HOLDING_S - 1)
    assert any(row.protocol == PEER for row in bench.view().bindings), "the last refresh did not count"
    assert UnbindNeighbour(PEER) in bench.wait(2)


@pytest.mark.parametrize(
    ("nat", "second"),
    [
        pytest.param(None, False, id="from before the extension"),
        pytest.param(CiscoNat(), False, id="empty"),
        pytest.param(server_row(), False, id="names the server"),
        pytest.param(server_row(ip_address("0.0.0.0")), False, id="does not know the server's address"),
        pytest.param(server_row(), True, id="behind NAT"),
    ],
)
def test_the_nat_extension_in_its_forms(nat: CiscoNat | None, second: bool) -> None:  # noqa: FBT001
    bench = ready_hub()
    packet = ios_registration().without_extension(CiscoNat)
    if nat is not None:
        packet = packet.with_extension(nat)
    if second:
        packet = replace(packet, source_nbma=ip_address("192.168.1.2"))
    actions = bench.packet(packet, PEER_NBMA)
    assert of(actions, BindNeighbour) == [BindNeighbour(PEER, PEER_NBMA)]
    replied = first_sent(actions).extension(CiscoNat)
    if nat is None:
        assert replied is None
        return
    assert replied is not None
    assert replied.cies[: len(nat.cies)] == nat.cies
    rows = [(row.protocol, row.nbma) for row in replied.cies[1:]]
    assert rows == ([(PEER, PEER_NBMA)] if second else [])


def test_a_group_comes_back() -> None:
    packet = ios_registration()
    packet = replace(packet, extensions=(*packet.extensions, GROUP))
    reply = first_sent(ready_hub().packet(packet, PEER_NBMA))
    assert reply.extensions[-1] == GROUP
    assert reply.candidates() is None, "our own vendor extension in a reply to IOS"


# ---------------------------------------------------------------- its password


@pytest.mark.parametrize(
    ("extensions", "allowed"),
    [
        pytest.param((CiscoAuthentication(b"DMVPN"),), True, id="nine octets, no padding"),
        pytest.param((CiscoAuthentication(b"DMVPN\0\0\0"),), False, id="padded to eight"),
        pytest.param((CiscoAuthentication(b"DMVP"),), False, id="shorter"),
        pytest.param((CiscoAuthentication(b"dmvpn"),), False, id="another case"),
        pytest.param((CiscoAuthentication(b"DMVPN", scheme=2),), False, id="another scheme"),
        pytest.param((CiscoAuthentication(b"DMVPN"),) * 2, False, id="twice"),
        pytest.param((), False, id="none"),
    ],
)
def test_the_password_is_compared_whole(extensions: tuple[Extension, ...], allowed: bool) -> None:  # noqa: FBT001
    bench = ready_hub(authentication=b"DMVPN")
    packet = ios_registration()
    packet = replace(packet, extensions=(*packet.extensions[:3], *extensions, *packet.extensions[3:]))
    reply = first_sent(bench.packet(packet, PEER_NBMA))
    if not allowed:
        assert (reply.kind, reply.error_code) == (Kind.ERROR_INDICATION, ErrorCode.AUTHENTICATION_FAILURE)
        assert not reply.extensions
        return
    assert reply.kind is Kind.REGISTRATION_REPLY
    given = [one for one in reply.extensions if isinstance(one, CiscoAuthentication)]
    assert [(one.encode(), one.compulsory) for one in given] == [(bytes.fromhex("00000001") + b"DMVPN", True)]


def test_a_password_without_a_scheme_is_malformed() -> None:
    """IOS calls it "Incorrect Auth extn length 0", and so do we: it is counted, and never taken for a password."""
    octets = ios_registration().with_extension(CiscoAuthentication(b"")).encode()
    cut = octets.replace(bytes.fromhex("8007000400000001"), bytes.fromhex("80070000"))
    fixed = bytearray(cut)
    fixed[10:12] = len(cut).to_bytes(2, "big")
    fixed[12:14] = bytes(2)
    fixed[12:14] = checksum(bytes(fixed)).to_bytes(2, "big")
    actions = ready_hub(authentication=b"DMVPN").tell(Received(bytes(fixed), PEER_NBMA))
    assert reasons(actions) == [DropReason.MALFORMED]
    assert not of(actions, Send)


# ---------------------------------------------------------------- IPv6 inside, with link-local entries

V6_HUB, V6_PEER = ip_address("2001:db8:ff::1"), ip_address("2001:db8:ff::12")
LINK_HUB, LINK_PEER = ip_address("fe80::1"), ip_address("fe80::a8bb:ccff:fe00:c00")
V6 = {"protocol": (V6_HUB,), "overlay": (ip_network("2001:db8:ff::/64"),), "link_local": LINK_HUB}


def ios_v6_registration(nbma: Any = PEER_NBMA, source: Any = V6_PEER) -> Packet:
    entries = (cie(prefix_length=128, nbma=nbma, protocol=LINK_PEER),)
    extensions = (ResponderAddress(), ForwardTransit(), ReverseTransit(), CiscoNat())
    return ios_registration(
        source_nbma=nbma, source_protocol=source, destination_protocol=V6_HUB, cies=entries, extensions=extensions
    )


def test_a_link_local_entry_binds_both_and_is_answered_with_the_hub_s_own() -> None:
    bench = ready_hub(**V6)
    actions = bench.packet(ios_v6_registration(), PEER_NBMA)
    assert of(actions, BindNeighbour) == [BindNeighbour(V6_PEER, PEER_NBMA), BindNeighbour(LINK_PEER, PEER_NBMA)]
    assert [question.protocol for question in bench.questions] == [V6_PEER], "no certificate claims fe80::"
    first, second = first_sent(actions).cies
    assert (first.code, first.nbma, first.protocol) == (0, PEER_NBMA, LINK_PEER)
    assert (second.code, second.nbma, second.protocol, second.prefix_length) == (0, HUB_NBMA, LINK_HUB, 128)
    again = bench.packet(ios_v6_registration(), PEER_NBMA)
    assert names(again) == ["Authorise", "REGISTRATION_REPLY"]
    assert len(first_sent(again).cies) == 2
    assert {UnbindNeighbour(V6_PEER), UnbindNeighbour(LINK_PEER)} <= set(bench.wait(HOLDING_S + 1))


def test_where_link_local_addresses_follow_from_overlay_ones_nobody_registers_any() -> None:
    """A spoke would have the packets that routing sends by another's."""
    bench = ready_hub(**V6, link_local_derived=True)
    actions = bench.packet(ios_v6_registration(), PEER_NBMA)
    assert not of(actions, BindNeighbour)
    assert first_sent(actions).cies[0].code == CieCode.ADMINISTRATIVELY_PROHIBITED


def test_a_link_local_entry_counts_only_with_the_header_s_address() -> None:
    bench = ready_hub(**V6)
    bench.refuses = {str(V6_PEER)}
    actions = bench.packet(ios_v6_registration(), PEER_NBMA)
    assert not of(actions, BindNeighbour)
    assert first_sent(actions).cies[0].code == CieCode.ADMINISTRATIVELY_PROHIBITED


def test_a_link_local_address_is_not_taken_from_who_has_it() -> None:
    bench = ready_hub(**V6)
    bench.up(OTHER_NBMA)
    bench.packet(ios_v6_registration(), PEER_NBMA)
    thief = replace(ios_v6_registration(OTHER_NBMA, ip_address("2001:db8:ff::13")), flags=0x0002)
    actions = bench.packet(thief, OTHER_NBMA)
    assert not of(actions, BindNeighbour)
    assert first_sent(actions).cies[0].code == CieCode.ALREADY_REGISTERED


def test_a_link_local_entry_does_not_move_the_header_s_address() -> None:
    bench = ready_hub(**V6)
    bench.up(OTHER_NBMA)
    held = ios_registration(source_protocol=V6_PEER, destination_protocol=V6_HUB, cies=(cie(prefix_length=128),))
    bench.packet(replace(held, source_nbma=OTHER_NBMA, extensions=()), OTHER_NBMA)
    actions = bench.packet(ios_v6_registration(), PEER_NBMA)
    assert not of(actions, BindNeighbour)
    assert first_sent(actions).cies[0].code == CieCode.ALREADY_REGISTERED


@pytest.mark.parametrize("taken", [V6_HUB, LINK_PEER], ids=["the hub's own", "and nothing else"])
def test_a_link_local_entry_brings_no_address_that_is_not_the_client_s(taken: Any) -> None:
    bench = ready_hub(**V6)
    source = V6_HUB if taken == V6_HUB else V6_PEER
    actions = bench.packet(ios_v6_registration(source=source), PEER_NBMA)
    bound = [one.protocol for one in of(actions, BindNeighbour)]
    assert bound == ([] if taken == V6_HUB else [V6_PEER, LINK_PEER])


# ---------------------------------------------------------------- an IOS hub and IOS spokes beyond it


def ready_spoke(**settings: Any) -> Bench:
    bench = spoke(hubs=(IOS_HUB,), **settings)
    bench.tell(Received(indication().encode(), HUB_NBMA))
    return bench


def ios_answer(request: Packet, **fields: Any) -> Packet:
    responder = ResponderAddress(cie(nbma=PEER_NBMA, protocol=PEER))
    row = cie(prefix_length=24, nbma=PEER_NBMA, protocol=PEER, **fields)
    recorded = ForwardTransit((cie(nbma=HUB_NBMA, protocol=HUB),))
    return replace(
        answer(request), flags=0xF802, cies=(row,), extensions=(responder, recorded, ReverseTransit(), CiscoNat())
    )


def question_of(bench: Bench) -> Packet:
    return bench.last_sent(Kind.RESOLUTION_REQUEST, HUB_NBMA)


def test_our_packets_to_ios_have_its_flags_and_hop_count_and_nothing_of_ours() -> None:
    bench = ready_spoke()
    request, asked = bench.last_sent(Kind.REGISTRATION_REQUEST), question_of(bench)
    assert (request.flags, request.hop_count) == (0x8002, 255)
    assert (asked.flags, asked.hop_count) == (0xC802, 255)
    assert request.candidates() is None
    assert asked.candidates() is None
    assert [type(one) for one in request.extensions] == [ResponderAddress, ForwardTransit, ReverseTransit, CiscoNat]


@pytest.mark.parametrize("mtu_octets", MTUS)
def test_a_reply_straight_from_an_unknown_address_makes_a_shortcut(mtu_octets: int) -> None:
    """IOS answers the requester itself, over an SA that it has just built; its MTU is no route's."""
    bench = ready_spoke()
    actions = bench.up(PEER_NBMA)
    actions += bench.packet(ios_answer(question_of(bench), mtu_octets=mtu_octets), PEER_NBMA)
    actions += bench.wait(5)
    (route,) = of(actions, InstallRoute)
    assert (route.prefix, route.gateway) == (PEER_LAN, PEER)
    assert route.mtu_octets is None or route.mtu_octets <= bench.settings.mtu_octets
    assert BindNeighbour(PEER, PEER_NBMA) in actions


def test_a_reply_by_way_of_the_hub_starts_ike_with_the_peer() -> None:
    bench = ready_spoke()
    actions = bench.packet(ios_answer(question_of(bench)), HUB_NBMA)
    assert [one.nbma for one in of(actions, WantSecurity)] == [PEER_NBMA]


def test_a_responder_that_is_not_the_destination_is_believed() -> None:
    """`ip nhrp responder`: the header has what was asked for, the extension another address of the responder."""
    bench = ready_spoke()
    request = question_of(bench)
    assert request.destination_protocol == PEER_HOST
    bench.up(PEER_NBMA)
    bench.packet(ios_answer(request), PEER_NBMA)
    assert of(bench.wait(5), InstallRoute) or of(bench.said, InstallRoute)


def test_a_reply_s_public_address_is_that_of_the_nat_extension() -> None:
    bench = ready_spoke()
    private = ip_address("192.168.1.2")
    reply = ios_answer(question_of(bench))
    reply = replace(reply, cies=(replace(reply.cies[0], nbma=private),))
    reply = reply.with_extension(CiscoNat((cie(holding_time_s=0, nbma=PUBLIC, protocol=PEER),)))
    actions = bench.packet(reply, HUB_NBMA)
    assert [one.nbma for one in of(actions, WantSecurity)] == [PUBLIC]


def test_an_error_without_the_password_is_heard() -> None:
    bench = ready_spoke(authentication=b"DMVPN")
    bench.wait(10)
    request = bench.last_sent(Kind.REGISTRATION_REQUEST)
    error = Packet(
        Kind.ERROR_INDICATION, 255, 0, 0, HUB_NBMA, HUB, OWN,
        error_code=ErrorCode.AUTHENTICATION_FAILURE, payload=offending(request.encode()),
    )  # fmt: skip
    actions = bench.packet(error, HUB_NBMA)
    assert DropReason.AUTHENTICATION not in reasons(actions)


def test_an_indication_as_ios_sends_it_is_acted_on() -> None:
    """No responder extension, flags zero, 28 octets of the packet, for its source and not for the spoke."""
    bench = spoke(hubs=(IOS_HUB,))
    packet = indication(extensions=(ForwardTransit(), ReverseTransit(), CiscoNat()))
    assert len(packet.payload) == 28
    actions = bench.packet(packet, HUB_NBMA)
    assert first_sent(actions).destination_protocol == PEER_HOST


def test_a_repeated_registration_of_ours_has_its_old_id() -> None:
    bench = Bench(replace(spoke().settings, hubs=(IOS_HUB,)))
    bench.start()
    bench.up(HUB_NBMA)
    bench.wait(10)
    ids = [decode(one.octets).request_id for one in of(bench.said, Send)]
    assert len(ids) > 2
    assert len(set(ids)) == 1
