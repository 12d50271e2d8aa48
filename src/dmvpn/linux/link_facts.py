"""Devices, addresses and policy rules as the kernel has them, read without privileges. rtnetlink(7), fib_rules.h."""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_interface

from dmvpn.linux.netlink import Requests, address_of, attributes, device_name
from dmvpn.linux.routes import number_of

_RTM_GETLINK = 18
_RTM_GETADDR = 22
_IFINFO = struct.Struct("=BxHiII")  # family, type, index, flags, change
_IFADDR = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_IFLA_IFNAME = 3
_IFLA_MTU = 4
_IFA_ADDRESS = 1
_IFA_LOCAL = 2
_UP = 0x1
_LOWER_UP = 0x10000


@dataclass(frozen=True, slots=True)
class LinkFacts:
    """`up` is what an administrator wants, `carrier` what the other end of the cable allows."""

    name: str
    up: bool
    carrier: bool
    mtu_octets: int


def links(requests: Requests) -> dict[str, LinkFacts]:
    found = {}
    for message in requests.dump("devices", _RTM_GETLINK, _IFINFO.pack(0, 0, 0, 0, 0)):
        _family, _type, _index, flags, _change = _IFINFO.unpack_from(message.payload)
        values = attributes(message.payload, _IFINFO.size)
        name = values.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="replace")
        mtu = number_of(values.get(_IFLA_MTU))
        found[name] = LinkFacts(name, bool(flags & _UP), bool(flags & _LOWER_UP), mtu)
    return found


def addresses(requests: Requests) -> set[tuple[str, IPv4Interface | IPv6Interface]]:
    """Device and address with its length."""
    found = set()
    for message in requests.dump("addresses", _RTM_GETADDR, _IFADDR.pack(0, 0, 0, 0, 0)):
        _family, length, _flags, _scope, index = _IFADDR.unpack_from(message.payload)
        values = attributes(message.payload, _IFADDR.size)
        # With a peer the address itself is IFA_LOCAL.
        address = address_of(values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS, b""))
        device = device_name(index)
        if address is not None and device is not None:
            found.add((device, ip_interface(f"{address}/{length}")))
    return found
