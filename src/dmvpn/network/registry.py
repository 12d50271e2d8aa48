"""Names and numbers that the kernel shares between everybody: devices, tables, priorities, marks, NFLOG groups.

They follow from the names in the file only, so they are the same on every router and stay when the file grows. Two
networks on one machine have different ones, but for what both mean alike: priorities, the protocol and charon's mark.
"""

import hashlib
from collections.abc import Sequence

from dmvpn.network.plan import Mark, Registry

DEVICE_OCTETS = 15  # IFNAMSIZ less its NUL, linux/if.h

UPLINKS_LIMIT = 255  # values of the mark's field but 0

_IKE_TABLES = (430_000, 10_000)  # first and count: far from rt_tables(5) names and from what people pick by hand
_UPLINK_TABLES = (440_000, 1_000)  # of these, a run of 256 for each network
_DEVICE_GROUPS = (420_000, 10_000)
_NFLOG_GROUPS = (20_000, 20_000)  # of 16 bits, linux/netfilter/nfnetlink_log.h
_MULTICAST_GROUPS = (40_000, 20_000)


def device_name(network: str, cloud: str) -> str:
    """The cloud's device: network-cloud, shortened with a hash of the whole when the kernel's 15 octets are too few."""
    return _shortened(f"{network}-{cloud}")


def _shortened(whole: str) -> str:
    if len(whole) <= DEVICE_OCTETS:
        return whole
    return f"{whole[:10].rstrip('-.')}{'.' if '.' in whole else '-'}{_digest(whole) & 0xFFFF:04x}"


def registry(network: str) -> Registry:
    """The numbers of one network."""
    return Registry(
        ike_table=_number(_IKE_TABLES, f"ike {network}"),
        ike_priority=220,
        # The upper byte: awall and people use small numbers. One for all networks: what a charon sends itself goes to
        # the Internet, past the ways of every network, not only of its own.
        ike_mark=Mark(value=0x42000000, mask=0xFF000000),
        ipsec_device=_shortened(f"{network}.ipsec"),  # the point: a cloud's device has none
        ipsec_group=_number(_DEVICE_GROUPS, f"group {network}"),
        route_protocol=79,
        # Marks and sources must not lead internal packets to an ISP, so main's own ways go first.
        uplink_priority=400,
        uplink_mask=0x00FF0000,
        uplink_tables=_first_uplink_table(network),
    )


def uplink_numbers(devices: Sequence[str]) -> dict[str, int]:
    """1 to 255 for each device: by its name, so that networks that share the uplinks of a machine mean the same."""
    numbers: dict[str, int] = {}
    for device in sorted(set(devices)):
        number = _digest(f"uplink {device}") % UPLINKS_LIMIT
        while number + 1 in numbers.values():
            number = (number + 1) % UPLINKS_LIMIT
        numbers[device] = number + 1
    return numbers


def uplink_table(network: str, number: int) -> int:
    """The routing table of one uplink."""
    return _first_uplink_table(network) + number


def _first_uplink_table(network: str) -> int:
    first, count = _UPLINK_TABLES
    return first + _digest(f"uplinks {network}") % count * (UPLINKS_LIMIT + 1)


def uplink_mark(number: int) -> int:
    return number << 16


def nflog_group(network: str, cloud: str) -> int:
    """Where the hairpins of one cloud are reported."""
    return _number(_NFLOG_GROUPS, f"nflog {network} {cloud}")


def multicast_group(network: str, cloud: str) -> int:
    """Where the multicast of one cloud on the kernel plane is given to dmvpnd."""
    return _number(_MULTICAST_GROUPS, f"multicast {network} {cloud}")


def _number(range_: tuple[int, int], what: str) -> int:
    first, count = range_
    return first + _digest(what) % count


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])
