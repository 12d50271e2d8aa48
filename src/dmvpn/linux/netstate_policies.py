"""XFRM policies of our own: GRE that no policy of charon's takes is blocked. linux/xfrm.h, ip-xfrm(8).

charon (kernel-netlink, 5.9) gives a policy 200,000 for a pass, 400,000 for an SA or a trap and 600,000 for a fallback,
less 512 for each bit of both prefixes, 256 for a protocol, 4 for each bit of the ports' masks, 2 for an interface and 1
if it is no trap. The lower number wins, so above 600,000 a policy is what is left when charon has none.
"""

import errno
import socket
import struct
from contextlib import suppress
from ipaddress import ip_network
from typing import Self

from dmvpn.linux.netlink import NETLINK_XFRM, NLM_F_CREATE, NetlinkRefusal, Requests, address_of
from dmvpn.linux.netstate_file import DIRECTIONS, Network, Policy

PRIORITY = 0x7F000000

_NEWPOLICY, _DELPOLICY, _GETPOLICY, _UPDPOLICY = 0x13, 0x14, 0x15, 0x19
_BLOCK = 1
_GRE = socket.IPPROTO_GRE
_UNLIMITED = (1 << 64) - 1
_PORTS = 0xFFFF
# daddr, saddr, dport, its mask, sport, its mask (network order: see _ports), family, both lengths, protocol
_SELECTOR = struct.Struct("=16s16s2s2s2s2sHBBB3xiI")
_LIFETIMES = struct.pack("=8Q4Q", *[_UNLIMITED] * 4, *[0] * 8)
_REST = struct.Struct("=IIBBBB4x")  # priority, index, direction, action, flags, share
_ID = struct.Struct("=IB3x")  # index, direction: struct xfrm_userpolicy_id after its selector
ID_OCTETS = _SELECTOR.size + _ID.size


class Policies:
    """One socket of NETLINK_XFRM. Every refusal is a Fault that names the policy."""

    def __init__(self) -> None:
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_XFRM)
        opened.bind((0, 0))
        self._requests = Requests(opened)

    def close(self) -> None:
        self._requests.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def present(self) -> set[Policy]:
        """Those that are as we make them, whoever made them."""
        rows = self._requests.dump("XFRM policies", _GETPOLICY, b"")
        return {policy for policy in (policy_of(row.payload) for row in rows) if policy is not None}

    def add(self, policy: Policy) -> None:
        """Raises NetlinkRefusal (EEXIST) if there is one with its selector."""
        self._requests.ask(str(policy), _NEWPOLICY, NLM_F_CREATE, _whole(policy))

    def put(self, policy: Policy) -> None:
        """As `add`; one with its selector gives way."""
        self._requests.ask(str(policy), _UPDPOLICY, NLM_F_CREATE, _whole(policy))

    def remove(self, policy: Policy) -> None:
        """One that is not there is no fault."""
        try:
            body = _selector(policy) + _ID.pack(0, DIRECTIONS.index(policy.direction))
            self._requests.ask(str(policy), _DELPOLICY, 0, body)
        except NetlinkRefusal as refusal:
            if refusal.errno != errno.ENOENT:
                raise


def _whole(policy: Policy) -> bytes:
    rest = _REST.pack(PRIORITY, 0, DIRECTIONS.index(policy.direction), _BLOCK, 0, 0)
    return _selector(policy) + _LIFETIMES + rest


def _selector(policy: Policy) -> bytes:
    version = next((side.version for side in (policy.source, policy.destination) if side is not None), 4)
    key = policy.gre_key
    # The kernel lays a flow's GRE key over its two ports: the upper half is the source's (xfrm_flowi_sport).
    upper, lower, mask = (b"\0\0",) * 3 if key is None else (*_halves(key), b"\xff\xff")
    return _SELECTOR.pack(
        _address(policy.destination),
        _address(policy.source),
        *(lower, mask, upper, mask),
        socket.AF_INET if version == 4 else socket.AF_INET6,
        *(0 if side is None else side.prefixlen for side in (policy.destination, policy.source)),
        _GRE,
        0,
        0,
    )


def _halves(key: int) -> tuple[bytes, bytes]:
    return (key >> 16).to_bytes(2), (key & _PORTS).to_bytes(2)


def _address(network: Network | None) -> bytes:
    return b"" if network is None else network.network_address.packed


def policy_of(payload: bytes) -> Policy | None:
    """A dumped policy in our words; None for one that we could not have made."""
    if len(payload) < _SELECTOR.size + len(_LIFETIMES) + _REST.size:
        return None
    destination, source, lower, lower_mask, upper, upper_mask, family, to_bits, from_bits, protocol, device, _ = (
        _SELECTOR.unpack_from(payload)
    )
    priority, _, direction, action, _, _ = _REST.unpack_from(payload, _SELECTOR.size + len(_LIFETIMES))
    if (priority, action, protocol, device) != (PRIORITY, _BLOCK, _GRE, 0) or direction >= len(DIRECTIONS):
        return None
    if lower_mask != upper_mask:
        return None
    octets = 4 if family == socket.AF_INET else 16
    return Policy(
        direction=DIRECTIONS[direction],
        source=_network(source[:octets], from_bits),
        destination=_network(destination[:octets], to_bits),
        gre_key=int.from_bytes(upper + lower) if any(lower_mask) else None,
    )


def may_displace(payload: bytes) -> bool:
    """Whether a policy that was updated can have the selector of one of ours, and is none of ours.

    charon's, which it updates with each SA, are between two hosts. Ours never are.
    """
    if len(payload) < _SELECTOR.size or policy_of(payload) is not None:
        return False
    *_, family, to_bits, from_bits, protocol, device, _ = _SELECTOR.unpack_from(payload)
    host_bits = 32 if family == socket.AF_INET else 128
    return (protocol, device) == (_GRE, 0) and (to_bits, from_bits) != (host_bits, host_bits)


def _network(octets: bytes, bits: int) -> Network | None:
    address = address_of(octets)
    if bits == 0 or address is None:
        return None
    with suppress(ValueError):
        return ip_network(f"{address}/{bits}")
    return None
