"""The next hops that the rule set has seen traffic to, read from the kernel."""

import errno
import shutil
import subprocess
from ipaddress import ip_address

import pytest

from dmvpn.linux.netlink import NetlinkRefusal
from dmvpn.linux.used_sets import UsedSets

RULES = """
table inet used_here {
  set used_blue { type ipv4_addr; size 16384; flags dynamic,timeout; timeout 30s; }
  set used6_blue { type ipv6_addr; size 16384; flags dynamic,timeout; timeout 30s; }
}
"""


def nft(script: str) -> None:
    if shutil.which("nft") is None:
        pytest.skip("no nft (package nftables)")
    subprocess.run(("nft", "-f", "-"), input=script, text=True, check=True, timeout=20)


@pytest.mark.kernel
def test_addresses_of_both_families_and_of_large_sets_are_read(netns: None) -> None:
    many = [f"10.255.{number // 250}.{number % 250 + 1}" for number in range(3000)]
    nft(RULES)
    with UsedSets("used_here") as sets:
        assert sets.addresses("used_blue") == frozenset()
        nft(f"add element inet used_here used_blue {{ {', '.join(many)} }}")
        nft("add element inet used_here used6_blue { fd00::1, fd00::2 }")
        assert sets.addresses("used_blue") == frozenset(map(ip_address, many))
        assert sets.addresses("used6_blue") == frozenset((ip_address("fd00::1"), ip_address("fd00::2")))


@pytest.mark.kernel
def test_a_set_that_is_not_there_is_told_as_such(netns: None) -> None:
    nft(RULES)
    with UsedSets("used_here") as sets, pytest.raises(NetlinkRefusal) as refused:
        sets.addresses("used_green")
    assert refused.value.errno == errno.ENOENT
