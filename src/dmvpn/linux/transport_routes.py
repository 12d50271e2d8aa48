"""The way to transport addresses on the kernel plane: a route of their range, so that a peer's policy is looked up.

strongSwan installs none for selectors of one protocol (kernel_netlink_ipsec.c, "the selector is not for a specific
protocol/port"). ESP's own addresses decide where a packet leaves, so the device only has to be up and must not be lo.
Ours is the tunnel's own: GRE that no policy takes is sent back into it, where the kernel ends it as a loop
(ip_tunnel_xmit, counted as a collision; another cloud's at a next hop that nobody answers for). An uplink would carry
it away in clear, and this route outlives charon. Where there are several tunnels each is a way: the kernel takes that
of a device that goes down away, and what the others carry must not end with it.

It is in the main table, for all peers at once: a table for it needs a rule, and with any rule that is not the kernel's
own all forwarding costs an eighth more (docs/bench.md). zebra reads the metric's high octet as the administrative
distance (FRR manual, "Kernel routes"), so the route is nothing to it, as the unreachable one behind it is not.
"""

import errno
import struct
from ipaddress import ip_network
from typing import Final, Self

from dmvpn.errors import Fault
from dmvpn.linux import routes
from dmvpn.linux.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Address,
    NetlinkRefusal,
    Requests,
    attribute,
    device_index,
    family_of,
)
from dmvpn.linux.route_lookup import lookup
from dmvpn.linux.routes import RTM_DELROUTE, RTM_NEWROUTE, Network, RouteKind, RouteRow

_RTMSG: Final = struct.Struct("=BBBBBBBBI")
_SCOPE_LINK: Final = 253
_UNICAST: Final = 1
_DESTINATION: Final = 1
_OIF: Final = 4
_PRIORITY: Final = 6
_PREFSRC: Final = 7
_METRICS: Final = 8
_METRIC_MTU: Final = 2
FIRST_METRIC: Final = 0xFF001000  # before the unreachable route of the range, and of the distance 255 as that is
_MTU_OCTETS: Final = 65520  # no limit (IP_MAX_MTU): otherwise the tunnel's MTU would limit its own outer packets


class TransportRoutes:
    """The range's routes in the main table, one for each device, marked as ours. Each call is done when it returns."""

    def __init__(self, reach: Network, route_protocol: int, own: Address, devices: tuple[str, ...]) -> None:
        """`reach` is the transport range, `own` our address in it, `devices` are mGRE devices, at least one."""
        self._requests = Requests()
        self._reach = reach
        self._route_protocol = route_protocol
        self._own = own
        self._devices = devices
        self._alone = {row.prefix.network_address for row in self._rows() if row.prefix != reach}

    def close(self) -> None:
        self._requests.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def install(self) -> None:
        """GRE to a peer leaves with our own transport address, which its policy is for. Raises Fault.

        All that can be is installed, whatever the kernel says to one: it takes none into a device that is down.
        """
        self._install(self._reach, NLM_F_CREATE | NLM_F_REPLACE)

    def restore(self) -> None:
        """What somebody has taken away comes back; where nothing is missing nobody hears of a change. Raises Fault."""
        self._install(self._reach, NLM_F_CREATE | NLM_F_EXCL)

    def lead(self, peer: Address) -> None:
        """Where something longer in the range leads elsewhere (an uplink's own network may be in it), the peer gets a
        route of its own. Raises Fault, also if that does not help.
        """
        if self.leads(peer):
            return
        self._alone.add(peer)
        self._install(ip_network(peer), NLM_F_CREATE | NLM_F_REPLACE)
        if not self.leads(peer):
            what = "leads elsewhere, so no policy of this peer is looked up"
            raise Fault(f"route to {peer}", what, "somebody's rule or route takes it: ip rule; ip route get it")

    def leads(self, peer: Address) -> bool:
        row = lookup(self._requests, peer)
        return row is not None and row.device in self._devices

    def leave(self, peer: Address) -> None:
        """The peer's own route ends, if it has one. Raises Fault."""
        if peer not in self._alone:
            return
        self._alone.discard(peer)
        for metric, device in enumerate(self._devices, FIRST_METRIC):
            row = self._row(ip_network(peer), device, metric)
            self._requests.take(f"route {peer} dev {device}", RTM_DELROUTE, row)

    def missing(self) -> tuple[str, ...]:
        """The devices without their route."""
        there = {row.device for row in self._rows() if row.prefix == self._reach}
        return tuple(device for device in self._devices if device not in there)

    def _rows(self) -> tuple[RouteRow, ...]:
        rows = routes.dump(self._requests, family_of(self._reach.version), routes.TABLE_MAIN)
        return tuple(row for row in rows if is_transport_route(row, self._reach) and row.device in self._devices)

    def _install(self, prefix: Network, flags: int) -> None:
        faults: list[Fault] = []
        for metric, device in enumerate(self._devices, FIRST_METRIC):
            try:
                row = self._row(prefix, device, metric)
                self._requests.ask(f"route {prefix} dev {device}", RTM_NEWROUTE, flags, row)
            except NetlinkRefusal as refusal:
                if refusal.errno != errno.EEXIST:
                    faults.append(refusal)
            except Fault as fault:
                faults.append(fault)
        if faults:
            raise faults[0]

    def _row(self, prefix: Network, device: str, metric: int) -> bytes:
        payload = _RTMSG.pack(
            family_of(prefix.version),
            prefix.prefixlen,
            0,
            0,
            routes.TABLE_MAIN,
            self._route_protocol,
            _SCOPE_LINK,
            _UNICAST,
            0,
        )
        payload += attribute(_DESTINATION, prefix.network_address.packed)
        payload += attribute(_OIF, struct.pack("=i", device_index(device)))
        payload += attribute(_PRIORITY, struct.pack("=I", metric))
        payload += attribute(_PREFSRC, self._own.packed)
        return payload + attribute(_METRICS, attribute(_METRIC_MTU, struct.pack("=I", _MTU_OCTETS)))


def is_transport_route(row: RouteRow, reach: Network) -> bool:
    """Whether it is of this module: it leads to no network, and no answer of NHRP's may follow from it."""
    within = row.prefix.version == reach.version and row.prefix.subnet_of(reach)  # type: ignore[arg-type]
    return within and row.kind is RouteKind.UNICAST and row.metric >= FIRST_METRIC
