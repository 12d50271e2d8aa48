"""Neighbour entries: which NBMA address is behind a next hop. rtnetlink(7) RTM_NEWNEIGH, linux/neighbour.h.

On a TAP the link-layer address is a MAC that spells the NBMA address, 02:00:a.b.c.d; on an mGRE device it is the NBMA
address itself. Entries are permanent, so they outlive dmvpnd.
"""

import errno
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache, partial
from ipaddress import IPv4Address
from typing import Self

from dmvpn.errors import Fault
from dmvpn.linux.netlink import (
    NLM_F_CREATE,
    NLM_F_REPLACE,
    Address,
    Request,
    Requests,
    address_of,
    attribute,
    attributes,
    device_index,
    device_name,
    family_of,
)

RTM_NEWNEIGH = 28
RTM_DELNEIGH = 29
RTM_GETNEIGH = 30
NDA_DST = 1
NDA_LLADDR = 2
NUD_FAILED = 0x20
NUD_PERMANENT = 0x80
_NDA_PROTOCOL = 12
_NDA_IFINDEX = 8
_NDMSG = struct.Struct("=BxxxiHBB")  # family, ifindex, state, flags, type
_SPELT = b"\x02\x00"  # locally administered, unicast


class LinkForm(Enum):
    """How a device spells an NBMA address as link-layer address."""

    TAP = "tap"
    GRE = "gre"


def mac_of(nbma: IPv4Address) -> str:
    """02:00:a.b.c.d in the usual notation."""
    return (_SPELT + nbma.packed).hex(":")


def nbma_of(mac: str) -> IPv4Address | None:
    """The address that a MAC spells; None for any other MAC."""
    try:
        octets = bytes.fromhex(mac.replace(":", ""))
    except ValueError:
        return None
    return IPv4Address(octets[2:]) if len(octets) == 6 and octets.startswith(_SPELT) else None


def link_address(nbma: Address, form: LinkForm) -> bytes:
    """`nbma` as link-layer address. Raises Fault for an IPv6 address on a TAP: it does not fit a MAC."""
    if form is LinkForm.GRE:
        return nbma.packed
    if not isinstance(nbma, IPv4Address):
        raise Fault(str(nbma), "an IPv6 NBMA address does not fit a MAC of the userspace plane")
    return _SPELT + nbma.packed


@lru_cache(maxsize=16_384)  # a hub hears the same senders for hours, and making an address object takes its time
def nbma_of_link(octets: bytes) -> Address | None:
    """The NBMA address of a link-layer address of either form; None when it is none, or all zero (unknown)."""
    if len(octets) == 6:
        return IPv4Address(octets[2:]) if octets.startswith(_SPELT) else None
    return address_of(octets) if any(octets) else None


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A permanent entry. `nbma` is None when its link-layer address spells none."""

    device: str
    protocol: Address
    nbma: Address | None


@dataclass(frozen=True, slots=True)
class Change:
    """What a next hop's entry is to become: `nbma`'s, "nobody" (what waits is refused), or none at all."""

    protocol: Address
    nbma: Address | None = None
    refused: bool = False


class Neighbours:
    """Sets and removes entries; each call is one request, or one for many, and returns when the kernel has done it.

    `route_protocol` marks entries as ours (NDA_PROTOCOL, Linux 5.2).
    """

    def __init__(self, route_protocol: int) -> None:
        self._requests = Requests()
        self._route_protocol = route_protocol
        self._mark = attribute(_NDA_PROTOCOL, bytes((route_protocol,)))

    def close(self) -> None:
        self._requests.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def bind(self, device: str, protocol: Address, nbma: Address, form: LinkForm) -> None:
        """Traffic for `protocol` goes to `nbma` from now on, what waits for the answer included. Raises Fault."""
        self._change(device, form, Change(protocol, nbma))

    def refuse(self, device: str, protocol: Address) -> None:
        """Answer the kernel's question with "nobody": what waits is refused with host unreachable. Raises Fault."""
        self._change(device, LinkForm.GRE, Change(protocol, refused=True))

    def unbind(self, device: str, protocol: Address) -> None:
        """Take the entry away; one that is not there is no fault. Raises Fault."""
        self._change(device, LinkForm.GRE, Change(protocol))

    def _change(self, device: str, form: LinkForm, change: Change) -> None:
        for fault in self.change_all(device, form, (change,)).values():
            raise fault

    def change_all(self, device: str, form: LinkForm, changes: Sequence[Change]) -> dict[int, Fault]:
        """Make the changes in their order, in one request; what was not made, by its place, and why.

        When the kernel's answer is lost all of them count as not made.
        """
        requests: list[Request] = []
        places: list[int] = []
        refused: dict[int, Fault] = {}
        try:
            index = device_index(device)
            for place, change in enumerate(changes):
                try:
                    requests.append(self._request(device, index, form, change))
                    places.append(place)
                except Fault as fault:
                    refused[place] = fault
            for at, refusal in self._requests.ask_all(f"neighbours on {device}", requests).items():
                gone = requests[at].kind == RTM_DELNEIGH and refusal.errno == errno.ENOENT
                if not gone:
                    refused[places[at]] = refusal
        except Fault as fault:
            return dict.fromkeys(range(len(changes)), fault)
        return refused

    def ours(self, device: str) -> tuple[Neighbour, ...]:
        """The permanent entries of ours on a device."""
        index = device_index(device)
        found = []
        # The kernel's own filter by device keeps a hub's dump to one cloud.
        for message in self._requests.dump(
            f"neighbours of {device}",
            RTM_GETNEIGH,
            _NDMSG.pack(0, 0, 0, 0, 0) + attribute(_NDA_IFINDEX, struct.pack("=I", index)),
        ):
            _family, owner, state, _flags, _type = _NDMSG.unpack_from(message.payload)
            values = attributes(message.payload, _NDMSG.size)
            mark = values.get(_NDA_PROTOCOL, b"")
            protocol = address_of(values.get(NDA_DST, b""))
            if owner != index or not state & NUD_PERMANENT or protocol is None:
                continue
            # A kernel without NDA_PROTOCOL gives no mark; then every permanent entry on our own device is ours.
            if mark and mark[0] != self._route_protocol:
                continue
            found.append(Neighbour(device, protocol, nbma_of_link(values.get(NDA_LLADDR, b""))))
        return tuple(found)

    def _request(self, device: str, index: int, form: LinkForm, change: Change) -> Request:
        """Raises Fault for a link-layer address that cannot be."""
        protocol = change.protocol
        where = partial(_named, protocol, device)
        destination = attribute(NDA_DST, protocol.packed)
        if change.nbma is None and not change.refused:
            head = _NDMSG.pack(family_of(protocol.version), index, 0, 0, 0)
            return Request(where, RTM_DELNEIGH, 0, head + destination)
        state = NUD_FAILED if change.nbma is None else NUD_PERMANENT
        payload = _NDMSG.pack(family_of(protocol.version), index, state, 0, 0) + destination + self._mark
        if change.nbma is not None:
            payload += attribute(NDA_LLADDR, link_address(change.nbma, form))
        return Request(where, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, payload)


def _named(protocol: Address, device: str) -> str:
    return f"neighbour {protocol} on {device}"


def question_of(payload: bytes) -> tuple[str, Address] | None:
    """Device and next hop that an RTM_GETNEIGH of the kernel asks for; None when it says neither."""
    if len(payload) < _NDMSG.size:
        return None
    _family, index, _state, _flags, _type = _NDMSG.unpack_from(payload)
    protocol = address_of(attributes(payload, _NDMSG.size).get(NDA_DST, b""))
    device = device_name(index)
    return (device, protocol) if device is not None and protocol is not None else None
