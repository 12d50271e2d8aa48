"""Names and numbers that the kernel shares between everybody: devices, tables, priorities, marks, NFLOG groups.

They follow from the names in the file only, so they are the same on every router and stay when the file grows.
"""

import hashlib

from dmvpn.network.plan import Mark, Registry

DEVICE_OCTETS = 15  # IFNAMSIZ less its NUL, linux/if.h

_TABLES = (420_000, 10_000)  # first and count: far from rt_tables(5) names and from what people pick by hand
_NFLOG_GROUPS = (20_000, 20_000)  # of 16 bits, linux/netfilter/nfnetlink_log.h
_MULTICAST_GROUPS = (40_000, 20_000)


def device_name(network: str, cloud: str) -> str:
    """The cloud's device: network-cloud, shortened with a hash of the whole when the kernel's 15 octets are too few."""
    whole = f"{network}-{cloud}"
    if len(whole) <= DEVICE_OCTETS:
        return whole
    return f"{whole[:10].rstrip('-')}-{_digest(whole) & 0xFFFF:04x}"


def registry(network: str) -> Registry:
    """The numbers of one network."""
    first, count = _TABLES
    return Registry(
        shortcut_table=first + _digest(f"table {network}") % count,
        # After charon's rule, so that a shortcut never catches a transport address; before main and before what sends
        # internal prefixes to main.
        shortcut_priority=300,
        ike_table=220,
        ike_priority=220,
        ike_mark=Mark(value=0x42000000, mask=0xFF000000),  # the upper byte: awall and people use small numbers
        route_protocol=79,
    )


def nflog_group(network: str, cloud: str) -> int:
    """Where the hairpins of one cloud are reported."""
    first, count = _NFLOG_GROUPS
    return first + _digest(f"nflog {network} {cloud}") % count


def multicast_group(network: str, cloud: str) -> int:
    """Where the multicast of one cloud on the kernel plane is given to dmvpnd."""
    first, count = _MULTICAST_GROUPS
    return first + _digest(f"multicast {network} {cloud}") % count


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])
