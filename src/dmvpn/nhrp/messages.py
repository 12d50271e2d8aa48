"""The packets this engine originates. Extensions in IOS's order: responder, transit, NAT, vendor."""

from collections.abc import Iterator
from typing import Final

from dmvpn.nhrp.candidates import OUI, Candidates
from dmvpn.nhrp.cie import Cie
from dmvpn.nhrp.core import Core
from dmvpn.nhrp.events import Address, HubSetting, Network
from dmvpn.nhrp.extensions import (
    CiscoNat,
    Extension,
    ForwardTransit,
    ResponderAddress,
    ReverseTransit,
    VendorPrivate,
)
from dmvpn.nhrp.numbers import (
    CISCO_HOP_COUNT,
    PREFIX_WHOLE,
    CieCode,
    ErrorCode,
    Kind,
    PurgeFlag,
    RegistrationFlag,
    ResolutionFlag,
)
from dmvpn.nhrp.packet import Packet, offending

# Cisco's own: a router asks for the authoritative answer, its own binding is stable, it understands the NAT extension.
REQUEST_FLAGS: Final = ResolutionFlag.Q | ResolutionFlag.A | ResolutionFlag.S | ResolutionFlag.NAT
KEPT_IN_REPLY: Final = ResolutionFlag.Q | ResolutionFlag.U | ResolutionFlag.S | ResolutionFlag.NAT
CISCO_PREFERENCE: Final = 255
HOLDING_TIME_MOST_S: Final = 0xFFFF


def entry(
    core: Core,
    *,
    code: CieCode = CieCode.OK,
    prefix_length: int = PREFIX_WHOLE,
    holding_time_s: float | None = None,
    nbma: Address | None = None,
    protocol: Address | None = None,
) -> Cie:
    """A CIE; the holding time is the cloud's unless given."""
    holding = core.settings.holding_time_s if holding_time_s is None else holding_time_s
    return Cie(
        code=code,
        prefix_length=prefix_length,
        mtu_octets=core.settings.mtu_octets,
        holding_time_s=min(int(holding), HOLDING_TIME_MOST_S),
        preference=CISCO_PREFERENCE,
        nbma=nbma,
        nbma_subaddress=b"",
        protocol=protocol,
    )


def own_entry(core: Core, like: Address, towards: Address | None = None) -> Cie:
    """This station, in a packet about addresses of that family to the router at `towards`."""
    nbma = core.own_nbma(towards)
    which = (like.version, nbma is core.settings.nbma)
    known = core.own_entries.get(which)
    if known is None:
        own = core.own_address(like)
        known = core.own_entries[which] = entry(core, prefix_length=like.max_prefixlen, nbma=nbma, protocol=own)
    return known


def _own_nat(core: Core, own: Address, real: Address | None) -> CiscoNat:
    """Where we really are, for those who read it in a request or reply; empty when that is no secret."""
    if real is None:
        return CiscoNat()
    whole = own.max_prefixlen
    return CiscoNat((entry(core, prefix_length=whole, holding_time_s=0, nbma=real, protocol=own),))


def _real_nbma(core: Core, asked: Address) -> Address | None:
    """Behind NAT, the public address. And to a hub of ours our underlay address, since it may pass the request on to a
    foreign router, for whom the transport address is like one behind a NAT.
    """
    reachable = core.settings.underlay_nbma is not None
    return core.underlay_through(asked) if reachable and core.is_ours(asked) else core.natted_as


def registration_request(core: Core, own: Address, hub: HubSetting, hub_protocol: Address, request_id: int) -> Packet:
    """RFC 2332 5.2.3: the empty addresses of its entry are the header's. The NAT extension names the server."""
    server = entry(core, prefix_length=own.max_prefixlen, holding_time_s=0, nbma=hub.nbma, protocol=hub_protocol)
    extensions: tuple[Extension, ...] = (
        ResponderAddress(),
        ForwardTransit(),
        ReverseTransit(),
        CiscoNat((server,)),
    )
    packet = Packet(
        kind=Kind.REGISTRATION_REQUEST,
        hop_count=CISCO_HOP_COUNT,
        flags=RegistrationFlag.U | RegistrationFlag.NAT,
        request_id=request_id,
        source_nbma=core.own_nbma(hub.nbma),
        source_protocol=own,
        destination_protocol=hub_protocol,
        cies=(entry(core),),
        extensions=extensions,
    )
    return packet.with_candidates(core.candidates()) if hub.ours else packet


def resolution_request(core: Core, own: Address, destination: Address, request_id: int, asked: Address) -> Packet:
    """RFC 2332 5.2.1, to `asked`, with our own candidates: the far end starts IKE as soon as it reads them."""
    packet = Packet(
        kind=Kind.RESOLUTION_REQUEST,
        hop_count=CISCO_HOP_COUNT,
        flags=REQUEST_FLAGS,
        request_id=request_id,
        source_nbma=core.own_nbma(asked),
        source_protocol=own,
        destination_protocol=destination,
        cies=(entry(core, prefix_length=own.max_prefixlen),),
        extensions=(
            ResponderAddress(),
            ForwardTransit(),
            ReverseTransit(),
            _own_nat(core, own, _real_nbma(core, asked)),
        ),
    )
    return packet.with_candidates(core.candidates()) if core.is_ours(asked) else packet


def reply_to(
    core: Core,
    request: Packet,
    kind: Kind,
    cies: tuple[Cie, ...],
    flags: int,
    requester: Address | None = None,
    *,
    nat: CiscoNat | None = None,
    candidates: Candidates | None = None,
    destination: Address | None = None,
) -> Packet:
    """A reply: source and destination stay, and it has no extension that the request had not.

    Unless given, `nat` is the request's, `candidates` are our own, and `destination` is the request's.
    """
    return Packet(
        kind,
        CISCO_HOP_COUNT,
        flags,
        request.request_id,
        request.source_nbma,
        request.source_protocol,
        request.destination_protocol if destination is None else destination,
        cies,
        tuple(_answers(core, request, requester, nat, candidates)),
        request.source_subaddress,
    )


def _answers(
    core: Core, request: Packet, requester: Address | None, nat: CiscoNat | None, candidates: Candidates | None
) -> Iterator[Extension]:
    """The reply's extensions, in the request's order."""
    told = False
    for extension in request.extensions:
        match extension:
            case ResponderAddress():
                yield ResponderAddress(own_entry(core, request.source_protocol, requester))
            case ReverseTransit():
                yield ReverseTransit()
            case CiscoNat() if nat is not None:  # in place of the first, and of any other
                yield from (nat,) if extension is request.extension(CiscoNat) else ()
            case ForwardTransit() | CiscoNat():
                yield extension
            case VendorPrivate() if extension.oui == OUI:
                yield from () if told else ((core.candidates() if candidates is None else candidates).to_vendor(),)
                told = True
            case VendorPrivate():
                yield extension
            case _:
                pass  # authentication is written at sending; what is unknown cannot be answered


def resolution_reply(core: Core, request: Packet, cie: Cie, requester: Address, *, authoritative: bool) -> Packet:
    flags = request.flags & KEPT_IN_REPLY
    if authoritative:
        flags |= ResolutionFlag.A | ResolutionFlag.D
    own = core.own_address(request.source_protocol)
    nat = None if own is None else _own_nat(core, own, core.natted_as)
    return reply_to(core, request, Kind.RESOLUTION_REPLY, (cie,), flags, requester, nat=nat)


def purge_request(
    core: Core,
    own: Address,
    destination: Address,
    request_id: int,
    purged: Network,
    *,
    silent: bool,
    towards: Address | None = None,
) -> Packet:
    """RFC 2332 5.2.5: forget `purged` as far as it came from us. `silent`: no reply wanted."""
    cie = entry(core, prefix_length=purged.prefixlen, holding_time_s=0, protocol=purged.network_address)
    return Packet(
        kind=Kind.PURGE_REQUEST,
        hop_count=CISCO_HOP_COUNT,
        flags=PurgeFlag.N if silent else 0,
        request_id=request_id,
        source_nbma=core.own_nbma(towards),
        source_protocol=own,
        destination_protocol=destination,
        cies=(cie,),
        extensions=(ForwardTransit(), ReverseTransit()),
    )


def error_indication(
    core: Core,
    own: Address,
    octets: bytes,
    about: Packet,
    code: ErrorCode,
    offset: int,
    towards: Address | None = None,
) -> Packet:
    """RFC 2332 5.2.7: to the source of the offending packet, without extensions."""
    return Packet(
        kind=Kind.ERROR_INDICATION,
        hop_count=CISCO_HOP_COUNT,
        flags=0,
        request_id=0,
        source_nbma=core.own_nbma(towards),
        source_protocol=own,
        destination_protocol=about.source_protocol,
        error_code=code,
        error_offset=offset,
        payload=offending(octets),
    )


def traffic_indication(
    core: Core, own: Address, source: Address, head: bytes, towards: Address | None = None
) -> Packet:
    """Cisco's redirect: to `source`, the sender of the packet that took the long way; `head` is that packet's."""
    return Packet(
        kind=Kind.TRAFFIC_INDICATION,
        hop_count=CISCO_HOP_COUNT,
        flags=0,
        request_id=0,
        source_nbma=core.own_nbma(towards),
        source_protocol=own,
        destination_protocol=source,
        extensions=(ForwardTransit(), ReverseTransit(), CiscoNat()),
        payload=head,
    )
