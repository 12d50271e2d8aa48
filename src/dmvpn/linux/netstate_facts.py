"""Devices as the kernel shows them. rtnetlink(7), linux/if_link.h, linux/if_bonding.h."""

from dataclasses import dataclass
from typing import Any

_IFF_UP = 0x1
_IFF_NOARP = 0x80
GRE_KEY = 0x2000


@dataclass(frozen=True, slots=True)
class GreFacts:
    """What an mGRE device of ours is made of. `fixed` are a local or remote address, and both keys unlike: not ours."""

    key: int | None
    ttl: int
    tos: int
    fixed: bool
    arp: bool


@dataclass(frozen=True, slots=True)
class BondFacts:
    """A bond's settings, in the kernel's numbers. `primary` and `active` are device indexes; 0 is none."""

    mode: int
    miimon_ms: int
    updelay_ms: int
    lacp_rate: int
    primary: int
    active: int


@dataclass(frozen=True, slots=True)
class LinkFacts:
    """`master` is the index of the bond or bridge it is in, `parent` that of the device below a VLAN; 0: none."""

    index: int
    name: str
    kind: str  # "tun" for a TAP and a TUN both, "" for hardware and lo
    mac: str
    mtu_octets: int
    up: bool
    carrier: bool = True
    master: int = 0
    parent: int = 0
    vlan_id: int = 0
    gre: GreFacts | None = None
    bond: BondFacts | None = None


def facts_of(message: Any) -> LinkFacts:
    kind = message.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") or ""
    data = message.get_nested("IFLA_LINKINFO", "IFLA_INFO_DATA")
    return LinkFacts(
        index=message["index"],
        name=message.get_attr("IFLA_IFNAME"),
        kind=kind,
        mac=message.get_attr("IFLA_ADDRESS") or "",
        mtu_octets=message.get_attr("IFLA_MTU"),
        up=bool(message["flags"] & _IFF_UP),
        carrier=message.get_attr("IFLA_CARRIER") == 1,
        master=message.get_attr("IFLA_MASTER") or 0,
        parent=message.get_attr("IFLA_LINK") or 0,
        vlan_id=data.get_attr("IFLA_VLAN_ID") or 0 if kind == "vlan" else 0,
        gre=_gre_of(data, arp=not message["flags"] & _IFF_NOARP) if kind == "gre" else None,
        bond=_bond_of(data) if kind == "bond" else None,
    )


def _gre_of(data: Any, *, arp: bool) -> GreFacts:
    into, out = ((data.get_attr(f"IFLA_GRE_{way}FLAGS") or 0) & GRE_KEY for way in "IO")
    key, other = ((data.get_attr(f"IFLA_GRE_{way}KEY") or 0) for way in "IO")
    ends = [data.get_attr(f"IFLA_GRE_{end}") or "0.0.0.0" for end in ("LOCAL", "REMOTE")]
    return GreFacts(
        key=key if into else None,
        ttl=data.get_attr("IFLA_GRE_TTL") or 0,
        tos=data.get_attr("IFLA_GRE_TOS") or 0,
        fixed=ends != ["0.0.0.0", "0.0.0.0"] or (into, key) != (out, other),
        arp=arp,
    )


def _bond_of(data: Any) -> BondFacts:
    def number(name: str) -> int:
        return int(data.get_attr(f"IFLA_BOND_{name}") or 0)

    return BondFacts(
        mode=number("MODE"),
        miimon_ms=number("MIIMON"),
        updelay_ms=number("UPDELAY"),
        lacp_rate=number("AD_LACP_RATE"),
        primary=number("PRIMARY"),
        active=number("ACTIVE_SLAVE"),
    )
