"""Connections that the kernel tracks, ended by their mark. linux/netfilter/nfnetlink_conntrack.h."""

import errno
import socket
import struct

from dmvpn.errors import Fault
from dmvpn.linux.netlink import NETLINK_NETFILTER, NetlinkRefusal, Requests, attribute, family_of

_SUBSYSTEM_CTNETLINK = 1
_DELETE = 2
_NFGENMSG = struct.Struct("=BBH")
_CTA_MARK = 8
_CTA_MARK_MASK = 21
_HEEDS_FAMILY = 1  # the message's version from which on a deletion is of its family alone
_NONE = (errno.ENOENT, errno.EINVAL)


def forget_marked(mark: int, mask: int, version: int = 0) -> None:
    """Forget every connection whose mark is this in the field of `mask`: its next packet is a new one's. `version`: of
    IPv4 or IPv6 only, where the kernel tells them apart (Linux 5.1). A host that tracks nothing has none to forget.
    Raises Fault.
    """
    family = family_of(version) if version else socket.AF_UNSPEC
    payload = _NFGENMSG.pack(family, _HEEDS_FAMILY if version else 0, 0)
    payload += attribute(_CTA_MARK, struct.pack("!I", mark)) + attribute(_CTA_MARK_MASK, struct.pack("!I", mask))
    try:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
    except OSError as error:
        raise Fault("connections", f"the kernel cannot be asked: {error.strerror or error}") from error
    with sock, Requests(sock) as requests:
        try:
            requests.ask("connections", (_SUBSYSTEM_CTNETLINK << 8) | _DELETE, 0, payload)
        except NetlinkRefusal as refusal:
            if refusal.errno not in _NONE:
                raise
