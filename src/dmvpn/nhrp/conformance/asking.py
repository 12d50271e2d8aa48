"""The packets that cases send: RFC 2332 with Cisco's extensions, built without the engine that may be the peer."""

from collections.abc import Generator

from dmvpn.nhrp.checksum import checksum
from dmvpn.nhrp.cie import Cie
from dmvpn.nhrp.conformance.bench import Ask, Bench, Heard, Wait
from dmvpn.nhrp.conformance.judging import accepted, reply_of
from dmvpn.nhrp.events import Address
from dmvpn.nhrp.extensions import (
    CiscoAuthentication,
    CiscoNat,
    Extension,
    ForwardTransit,
    ResponderAddress,
    ReverseTransit,
    Unknown,
)
from dmvpn.nhrp.numbers import Kind, PurgeFlag, RegistrationFlag, ResolutionFlag
from dmvpn.nhrp.packet import CHECKSUM_AT, SIZE_AT, Packet

HOP_COUNT = 255
PREFERENCE = 255
MTU_OCTETS = 1400
UNASSIGNED_TYPE = 0x1ABC  # of no RFC, and outside the experimental range
ASKED_FOR: tuple[Extension, ...] = (ResponderAddress(), ForwardTransit(), ReverseTransit(), CiscoNat())
OPTIONAL = Unknown(UNASSIGNED_TYPE, compulsory=False, value=b"skip me")
COMPULSORY = Unknown(UNASSIGNED_TYPE, compulsory=True, value=b"know me")


def binding(
    bench: Bench,
    protocol: Address | None = None,
    *,
    prefix_length: int | None = None,
    holding_time_s: int | None = None,
) -> Cie:
    """An entry for one of this station's addresses; an absent address is the header's."""
    return Cie(
        code=0,
        prefix_length=bench.registers.max_prefixlen if prefix_length is None else prefix_length,
        mtu_octets=MTU_OCTETS,
        holding_time_s=bench.holding_time_s if holding_time_s is None else holding_time_s,
        preference=PREFERENCE,
        nbma=None,
        nbma_subaddress=b"",
        protocol=protocol,
    )


def request(bench: Bench, kind: Kind, flags: int, destination: Address, cies: tuple[Cie, ...]) -> Packet:
    packet = Packet(
        kind=kind,
        hop_count=HOP_COUNT,
        flags=flags,
        request_id=next(bench.ids),
        source_nbma=bench.nbma,
        source_protocol=bench.registers,
        destination_protocol=destination,
        cies=cies,
        extensions=ASKED_FOR,
    )
    return sealed(bench, packet)


def sealed(bench: Bench, packet: Packet) -> Packet:
    """With the cloud's password, if there is one."""
    if bench.password is None:
        return packet
    return packet.with_extension(CiscoAuthentication(bench.password))


def registration(bench: Bench, *, prefix_length: int | None = None, holding_time_s: int | None = None) -> Packet:
    flags = RegistrationFlag.U | RegistrationFlag.NAT
    entry = binding(bench, prefix_length=prefix_length, holding_time_s=holding_time_s)
    return request(bench, Kind.REGISTRATION_REQUEST, flags, bench.peer, (entry,))


def resolution(bench: Bench, destination: Address, *, authoritative: bool = True) -> Packet:
    flags = ResolutionFlag.Q | ResolutionFlag.NAT | (ResolutionFlag.A if authoritative else 0)
    return request(bench, Kind.RESOLUTION_REQUEST, flags, destination, (binding(bench, holding_time_s=0),))


def purge(bench: Bench, *, silent: bool = False) -> Packet:
    cie = binding(bench, bench.registers, holding_time_s=0)
    return request(bench, Kind.PURGE_REQUEST, PurgeFlag.N if silent else 0, bench.peer, (cie,))


def ask(bench: Bench, packet: Packet, wait: Wait = Wait.ANSWER) -> Ask:
    return Ask(packet.encode(), bench.nbma, wait)


def spoilt(octets: bytes, at: int, value: bytes) -> bytes:
    """With other octets at an offset, and the checksum of what the length says good again."""
    changed = bytearray(octets)
    changed[at : at + len(value)] = value
    changed[CHECKSUM_AT : CHECKSUM_AT + 2] = bytes(2)
    size = int.from_bytes(changed[SIZE_AT : SIZE_AT + 2], "big")
    changed[CHECKSUM_AT : CHECKSUM_AT + 2] = checksum(bytes(changed[:size])).to_bytes(2, "big")
    return bytes(changed)


def register(bench: Bench) -> Generator[Ask, tuple[Heard, ...], Packet]:
    """Raises Judged when it is not accepted: most cases are those of a registered client."""
    heard = yield ask(bench, registration(bench))
    return accepted(reply_of(heard, Kind.REGISTRATION_REPLY))
