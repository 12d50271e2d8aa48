"""What the kernel would do with a packet: `ip route get`, with the matched route. rtnetlink(7) RTM_F_FIB_MATCH."""

import errno
import struct

from dmvpn.linux import routes
from dmvpn.linux.netlink import Address, NetlinkRefusal, Requests, attribute, family_of
from dmvpn.linux.routes import RTM_GETROUTE, RouteKind, RouteRow

_RTMSG = struct.Struct("=BBBBBBBBI")
_RTA_DST = 1
_RTM_F_LOOKUP_TABLE = 0x1000
_RTM_F_FIB_MATCH = 0x2000


def lookup(requests: Requests, destination: Address) -> RouteRow | None:
    """The route of all tables and rules that a packet of ours to `destination` takes; None when there is none."""
    # IPv6 names the route's table unasked, and refuses to be asked (inet6_rtm_valid_getroute_req).
    flags = _RTM_F_FIB_MATCH | (_RTM_F_LOOKUP_TABLE if destination.version == 4 else 0)
    head = _RTMSG.pack(family_of(destination.version), destination.max_prefixlen, 0, 0, 0, 0, 0, 0, flags)
    payload = head + attribute(_RTA_DST, destination.packed)
    try:
        row = routes.decode(requests.fetch(f"route to {destination}", RTM_GETROUTE, payload))
    except NetlinkRefusal as refusal:
        if refusal.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL):
            return None
        raise
    return row if row is not None and row.kind in (RouteKind.UNICAST, RouteKind.LOCAL) else None
