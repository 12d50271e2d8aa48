"""Numbers of the NHRP wire: RFC 2332 section 5 and what Cisco added. A name for each, nothing else."""

from enum import IntEnum, IntFlag
from typing import Final

GRE_PROTOCOL: Final = 0x2001  # also the EtherType on an mGRE device or on our TAP
VERSION: Final = 1
HEADER_OCTETS: Final = 20  # the fixed part
PACKET_LIMIT_OCTETS: Final = 9216  # a jumbo frame; no NHRP packet of any known sender comes near
CISCO_HOP_COUNT: Final = 255  # hop count 0 is rejected by IOS in registrations and indications

NBMA_IPV4: Final = 1  # ar$afn, IANA address family numbers
NBMA_IPV6: Final = 2
PROTOCOL_IPV4: Final = 0x0800  # ar$pro.type in its EtherType form
PROTOCOL_IPV6: Final = 0x86DD

# Type and length of an NBMA address share an octet: `0 x llllll`. x tells NSAP from E.164, which GRE has not.
LENGTH_MASK: Final = 0x3F

PREFIX_WHOLE: Final = 255  # old IOS, FRR, OpenNHRP: "unique", the whole address


class Kind(IntEnum):
    """ar$op.type. RFC 2332 5.2; 8 is Cisco's phase 3 redirect."""

    RESOLUTION_REQUEST = 1
    RESOLUTION_REPLY = 2
    REGISTRATION_REQUEST = 3
    REGISTRATION_REPLY = 4
    PURGE_REQUEST = 5
    PURGE_REPLY = 6
    ERROR_INDICATION = 7
    TRAFFIC_INDICATION = 8


class ResolutionFlag(IntFlag):
    """RFC 2332 5.2.1. NAT is Cisco's: the sender understands the NAT extension."""

    Q = 0x8000  # the requester is a router
    A = 0x4000  # authoritative
    D = 0x2000  # the destination's binding is stable
    U = 0x1000  # unique
    S = 0x0800  # the source's binding is stable
    NAT = 0x0002


class RegistrationFlag(IntFlag):
    """RFC 2332 5.2.3."""

    U = 0x8000  # unique
    NAT = 0x0002


class PurgeFlag(IntFlag):
    """RFC 2332 5.2.5."""

    N = 0x8000  # no reply wanted


class CieCode(IntEnum):
    """What a reply says about one binding. RFC 2332 5.2.2 and 5.2.4 (OpenNHRP and FRR wrongly use 11 for 12)."""

    OK = 0
    ADMINISTRATIVELY_PROHIBITED = 4
    INSUFFICIENT_RESOURCES = 5
    NO_BINDING = 12
    NOT_UNIQUE = 13
    ALREADY_REGISTERED = 14


class ErrorCode(IntEnum):
    """RFC 2332 5.2.7 (OpenNHRP and FRR wrongly use 2 for a loop)."""

    UNRECOGNISED_EXTENSION = 1
    LOOP = 3
    UNREACHABLE = 6
    PROTOCOL_ERROR = 7
    SDU_SIZE_EXCEEDED = 8
    INVALID_EXTENSION = 9
    INVALID_RESOLUTION_REPLY = 10
    AUTHENTICATION_FAILURE = 11
    HOP_COUNT_EXCEEDED = 15


class IndicationCode(IntEnum):
    """Why a traffic indication was sent; IOS's debug calls the only one seen "redirect(0)"."""

    REDIRECT = 0
