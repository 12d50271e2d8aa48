"""Policies that block: put into a kernel with XFRM, read back, taken away, in a namespace of their own."""

import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from ipaddress import ip_network

import pytest

from dmvpn.linux.netlink import NETLINK_XFRM
from dmvpn.linux.netstate_file import Policy
from dmvpn.linux.netstate_policies import Policies
from dmvpn.linux.policy_watch import PolicyWatch

Run = Callable[..., str]
RANGE = ip_network("100.64.0.0/16")
OURS = Policy("out", None, RANGE, None)


@pytest.fixture
def policies(netns: None) -> Iterator[Policies]:
    try:
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_XFRM).close()
    except OSError:
        pytest.skip("this kernel has no XFRM")
    with Policies() as opened:
        yield opened


@pytest.mark.parametrize(
    ("policy", "shown"),
    [
        pytest.param(Policy("out", None, RANGE, None), "src 0.0.0.0/0 dst 100.64.0.0/16 proto gre", id="to"),
        pytest.param(Policy("in", RANGE, None, None), "src 100.64.0.0/16 dst 0.0.0.0/0 proto gre", id="from"),
        pytest.param(Policy("fwd", RANGE, RANGE, None), "src 100.64.0.0/16 dst 100.64.0.0/16 proto gre", id="both"),
        pytest.param(Policy("out", None, None, 1), "src 0.0.0.0/0 dst 0.0.0.0/0 proto gre key 1", id="key"),
        pytest.param(Policy("in", None, None, 0x12345), "proto gre key 74565", id="key of both halves"),
        pytest.param(Policy("in", None, None, 0), "src 0.0.0.0/0 dst 0.0.0.0/0 proto gre key 0", id="no key"),
        pytest.param(Policy("out", None, ip_network("fd00::/8"), None), "src ::/0 dst fd00::/8 proto gre", id="IPv6"),
    ],
)
def test_the_kernel_has_what_was_asked_for(policies: Policies, ip: Run, policy: Policy, shown: str) -> None:
    policies.add(policy)
    text = ip("xfrm", "policy")
    assert shown in text
    # Far above charon's weakest, 600,000: the lower number wins.
    assert f"dir {policy.direction} action block priority 2130706432" in text
    assert policies.present() == {policy}
    policies.remove(policy)
    policies.remove(policy)  # what is gone already is no fault
    assert policies.present() == set()


def test_policies_of_others_are_not_ours(policies: Policies, ip: Run) -> None:
    ip("xfrm", "policy", "add", "dst", "100.64.0.0/16", "proto", "gre", "dir", "out", "action", "block")
    ip("xfrm", "policy", "add", "dst", "100.64.0.0/16", "dir", "out", "action", "block", "priority", "2130706432")
    assert policies.present() == set()


@pytest.mark.parametrize(
    ("selector", "wakes", "left"),
    [
        pytest.param(("dst", "100.64.0.0/16", "proto", "gre"), "", set(), id="ours is another's now"),
        pytest.param(
            ("src", "192.0.2.1", "dst", "192.0.2.2", "proto", "gre"), None, {OURS}, id="charon's, of two hosts"
        ),
        pytest.param(("dst", "100.64.0.0/16"), None, {OURS}, id="not of GRE"),
    ],
)
def test_an_update_wakes_where_it_may_have_taken_ours(
    policies: Policies, ip: Run, selector: tuple[str, ...], wakes: str | None, left: set[Policy]
) -> None:
    policies.add(OURS)
    with closing(PolicyWatch()) as watch:
        ip("xfrm", "policy", "update", *selector, "dir", "out", "action", "allow")
        assert watch.read() == wakes
        assert policies.present() == left
        policies.put(OURS)
        assert watch.read() is None, "our own is no news"
    assert policies.present() == {OURS}
