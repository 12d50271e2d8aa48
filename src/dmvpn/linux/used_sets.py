"""Which next hops had traffic lately: the elements of a dynamic nftables set. linux/netfilter/nf_tables.h."""

import socket
import struct
from collections.abc import Iterator
from typing import Final, Self

from dmvpn.linux.netlink import NETLINK_NETFILTER, Address, Requests, address_of, attribute, attributes

_GET_ELEMENTS: Final = 10 << 8 | 13
_NEW_ELEMENTS: Final = 10 << 8 | 12
_NFGENMSG: Final = struct.Struct("!BBH")  # family, version, resource
_INET: Final = 1
_LIST_TABLE: Final = 1
_LIST_SET: Final = 2
_LIST_ELEMENTS: Final = 3
_ELEMENT_KEY: Final = 1
_DATA_VALUE: Final = 1


class UsedSets:
    """Sets of addresses in one inet table. Each reading is one dump; expired elements are not in it."""

    def __init__(self, table: str) -> None:
        self._table = table
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        sock.bind((0, 0))
        self._requests = Requests(sock)

    def close(self) -> None:
        self._requests.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def addresses(self, name: str) -> frozenset[Address]:
        """What the set holds now. Raises NetlinkRefusal (ENOENT) if it is not there."""
        payload = _NFGENMSG.pack(_INET, 0, 0)
        payload += attribute(_LIST_TABLE, self._table.encode() + b"\0") + attribute(_LIST_SET, name.encode() + b"\0")
        found = self._requests.dump(f"set {name} of nft table {self._table}", _GET_ELEMENTS, payload)
        return frozenset(
            address
            for message in found
            if message.kind == _NEW_ELEMENTS
            for element in _each(attributes(message.payload, _NFGENMSG.size).get(_LIST_ELEMENTS, b""))
            if (address := _key(element)) is not None
        )


def _each(octets: bytes) -> Iterator[bytes]:
    """The values of a list of attributes, all of one type."""
    offset = 0
    while offset + 4 <= len(octets):
        (length,) = struct.unpack_from("=H", octets, offset)
        if length < 4:
            return
        yield octets[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def _key(element: bytes) -> Address | None:
    key = attributes(element).get(_ELEMENT_KEY, b"")
    return address_of(attributes(key).get(_DATA_VALUE, b""))
