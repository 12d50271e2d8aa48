"""What the kernel knows of a tunnel device: its form, its addresses, and where a next hop is. rtnetlink(7)."""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_interface

from dmvpn.errors import Fault
from dmvpn.linux.neighbours import NDA_DST, NDA_LLADDR, RTM_GETNEIGH, LinkForm, nbma_of_link
from dmvpn.linux.netlink import Address, Requests, address_of, attribute, attributes, device_index, family_of

Interface = IPv4Interface | IPv6Interface
RTM_GETLINK = 18
RTM_GETADDR = 22
_NDMSG = struct.Struct("=BxxxiHBB")  # family, ifindex, state, flags, type
_IFADDRMSG = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, ifindex
_IFA_ADDRESS = 1
_IFA_LOCAL = 2
_NDA_IFINDEX = 8
_IFINFOMSG = struct.Struct("=BxHiII")  # family, device type, index, flags, change
_IFLA_ADDRESS = 1
_ARPHRD_GRE = (778, 823)  # over IPv4 and over IPv6, linux/if_arp.h


@dataclass(frozen=True, slots=True)
class OverlayDevice:
    """`nbma` is the tunnel's own address, None where the device has none (a TAP, or GRE without local address)."""

    name: str
    form: LinkForm
    addresses: tuple[Interface, ...]
    nbma: Address | None


def overlay_device(name: str) -> OverlayDevice:
    """Raises Fault when there is no such device."""
    index = device_index(name)
    with Requests() as requests:
        answer = requests.fetch(f"device {name}", RTM_GETLINK, _IFINFOMSG.pack(0, 0, index, 0, 0)).payload
        _family, kind, _index, _flags, _change = _IFINFOMSG.unpack_from(answer)
        form = LinkForm.GRE if kind in _ARPHRD_GRE else LinkForm.TAP
        link = attributes(answer, _IFINFOMSG.size).get(_IFLA_ADDRESS, b"")
        nbma = nbma_of_link(link) if form is LinkForm.GRE else None
        found = tuple(
            address
            for message in requests.dump(f"addresses of {name}", RTM_GETADDR, _IFADDRMSG.pack(0, 0, 0, 0, 0))
            if (address := _address_on(message.payload, index)) is not None
        )
    return OverlayDevice(name, form, found, nbma)


def own_link_local(name: str) -> Address | None:
    """The device's own link-local IPv6 address, if it has one. Raises Fault when there is no such device."""
    return next((one.ip for one in overlay_device(name).addresses if one.version == 6 and one.ip.is_link_local), None)


def nbma_of_neighbour(device: str, protocol: Address) -> Address | None:
    """Where the kernel sends packets for this next hop on that device; None when it does not know, or nowhere."""
    index = device_index(device)
    question = _NDMSG.pack(family_of(protocol.version), 0, 0, 0, 0) + attribute(_NDA_IFINDEX, struct.pack("=I", index))
    with Requests() as requests:
        for message in requests.dump(f"neighbours of {device}", RTM_GETNEIGH, question):
            _family, owner, _state, _flags, _type = _NDMSG.unpack_from(message.payload)
            values = attributes(message.payload, _NDMSG.size)
            if owner == index and address_of(values.get(NDA_DST, b"")) == protocol:
                return nbma_of_link(values.get(NDA_LLADDR, b""))
    return None


def _address_on(payload: bytes, index: int) -> Interface | None:
    _family, length, _flags, _scope, owner = _IFADDRMSG.unpack_from(payload)
    values = attributes(payload, _IFADDRMSG.size)
    address = address_of(values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS, b""))
    if owner != index or address is None:
        return None
    return ip_interface(f"{address}/{length}")


def gre_key_of(name: str) -> int | None:
    """The key of a kernel GRE device, which its packets carry. Raises Fault when the kernel does not say."""
    from pyroute2 import IPRoute

    with IPRoute() as route:
        for message in route.get_links(ifname=name):
            data = message.get_nested("IFLA_LINKINFO", "IFLA_INFO_DATA")
            key = data.get_attr("IFLA_GRE_OKEY") if data is not None else None
            return int(key) if key else None
    raise Fault(name, "no such device")
