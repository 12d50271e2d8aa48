"""What is said of a packet under awall's policies is what the kernel does with it: the same table, without a kernel."""

from ipaddress import ip_address, ip_interface

import kernel_verdicts as kernel
import pytest
from awall_cases import CASES, DEVICES, FW, Case, assembled

from dmvpn.firewall.verdicts import Packet, judge


def asked(device: str, source: str, destination: str, service: str) -> Packet:
    """The packet as the filter sees it: where it goes is the device whose network its destination is in."""
    to = ip_address(destination)
    own = [str(ip_interface(one).ip) for addresses in DEVICES.values() for one in addresses]
    goes = [name for name, addresses in DEVICES.items() if any(to in ip_interface(one).network for one in addresses)]
    name, _, number = service.partition("/")
    return Packet(
        device_in=None if device == FW else device,
        device_out=None if destination in own else goes[0],
        source=ip_address(source),
        destination=to,
        protocol=kernel.PROTOCOLS[name],
        port=int(number) if name in ("tcp", "udp") else None,
        type=int(number) if name.startswith("icmp") else None,
        own_address=destination in own,
    )


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.name)
def test_what_is_said_of_a_packet_is_what_becomes_of_it(one: Case) -> None:
    rules = assembled(one.sections)
    # Where destination NAT leads to is for the kernel to say.
    rows = [row for row in one.rows if "dnat" not in one.name]
    said = [judge(rules, asked(*row[:4])).verdict.value for row in rows]
    assert said == [row[4] for row in rows]
