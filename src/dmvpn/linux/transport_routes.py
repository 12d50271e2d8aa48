"""Ways to transport addresses on the kernel plane: a route for each peer with an SA, so that its policy is looked up.

strongSwan installs none for selectors of one protocol (kernel_netlink_ipsec.c, "the selector is not for a specific
protocol/port"). ESP's own addresses decide where a packet leaves, so the device only has to be up and must not be lo.
Ours is the tunnel's own: GRE that no policy takes is sent back into it, where the kernel ends it as a loop
(ip_tunnel_xmit, counted as a collision; another cloud's at a next hop that nobody answers for). An uplink would carry
it away in clear, and these routes outlive charon. Where there are several tunnels each is a way: the kernel takes those
of a device that goes down away, and what the others carry must not end with it.
"""

import errno
import struct
from typing import Final, Self

from dmvpn.errors import Fault
from dmvpn.linux import routes
from dmvpn.linux.netlink import (
    NLM_F_CREATE,
    NLM_F_REPLACE,
    Address,
    NetlinkRefusal,
    Requests,
    attribute,
    device_index,
    family_of,
)
from dmvpn.linux.routes import RTM_DELROUTE, RTM_NEWROUTE

_RTMSG: Final = struct.Struct("=BBBBBBBBI")
_SCOPE_LINK: Final = 253
_SCOPE_NOWHERE: Final = 255
_UNICAST: Final = 1
_DESTINATION: Final = 1
_OIF: Final = 4
_PRIORITY: Final = 6
_PREFSRC: Final = 7
_METRICS: Final = 8
_TABLE: Final = 15
_METRIC_MTU: Final = 2
_WAYS_LIMIT: Final = 4096  # more than there can be devices of ours
_MTU_OCTETS: Final = 65520  # no limit (IP_MAX_MTU): otherwise the tunnel's MTU would limit its own outer packets


class TransportRoutes:
    """Host routes in charon's table, marked as ours. Each call is done when it returns."""

    def __init__(self, table: int, route_protocol: int, own: Address, devices: tuple[str, ...]) -> None:
        """`own` is our transport address, `devices` are mGRE devices, at least one."""
        self._requests = Requests()
        self._table = table
        self._route_protocol = route_protocol
        self._own = own
        self._devices = devices

    def close(self) -> None:
        self._requests.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def install(self, peer: Address) -> None:
        """GRE to `peer` leaves with our own transport address, which its policy is for. Raises Fault.

        All that can be is installed, whatever the kernel says to one: it takes none into a device that is down.
        """
        faults: list[Fault] = []
        for metric, device in enumerate(self._devices):
            try:
                self._install(peer, device, metric)
            except Fault as fault:
                faults.append(fault)
        if faults:
            raise faults[0]

    def _install(self, peer: Address, device: str, metric: int) -> None:
        payload = self._head(peer, _SCOPE_LINK, _UNICAST)
        payload += attribute(_OIF, struct.pack("=i", device_index(device)))
        payload += attribute(_PRIORITY, struct.pack("=I", metric))
        payload += attribute(_PREFSRC, self._own.packed)
        payload += attribute(_METRICS, attribute(_METRIC_MTU, struct.pack("=I", _MTU_OCTETS)))
        self._requests.ask(self._where(peer), RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, payload)

    def remove(self, peer: Address) -> None:
        """From now on the range's unreachable route counts; one that is not there is no fault. Raises Fault."""
        try:
            for _ in range(_WAYS_LIMIT):  # each request takes one away
                self._requests.ask(self._where(peer), RTM_DELROUTE, 0, self._head(peer, _SCOPE_NOWHERE, 0))
        except NetlinkRefusal as refusal:
            if refusal.errno not in (errno.ESRCH, errno.ENOENT):
                raise

    def peers(self) -> frozenset[Address]:
        """Who has such a route."""
        family = family_of(self._own.version)
        return frozenset(
            row.prefix.network_address
            for row in routes.dump(self._requests, family, self._table)
            if row.protocol == self._route_protocol and row.prefix.num_addresses == 1
        )

    def _where(self, peer: Address) -> str:
        return f"route {peer} table {self._table}"

    def _head(self, peer: Address, scope: int, kind: int) -> bytes:
        header_table = self._table if self._table < 256 else 0
        head = _RTMSG.pack(
            family_of(peer.version), peer.max_prefixlen, 0, 0, header_table, self._route_protocol, scope, kind, 0
        )
        return head + attribute(_DESTINATION, peer.packed) + attribute(_TABLE, struct.pack("=I", self._table))
