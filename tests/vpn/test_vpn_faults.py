"""A real router's apply, killed at each of its system calls; who stands by goes back, and the router is whole.

`make faults` plays it: with all its daemons an apply takes seconds, and there are some fifty places.
"""

import os
from functools import partial
from pathlib import Path

import pytest
from vpn_lab import NETWORKS, Vpn, until

import dying
from dmvpn.operations import change
from dying import Call

NETWORK = "trio"
pytestmark = [
    pytest.mark.lab,
    pytest.mark.timeout(3600),
    pytest.mark.skipif("DMVPN_FAULTS" not in os.environ, reason="make faults plays it"),
    pytest.mark.skipif(bool(dying.WHY_NOT), reason=dying.WHY_NOT),
]

TEXT = NETWORKS["trio"].read_text()
LAN = "networks: {lan: {port: eth1, prefix: 10.1.12.0/24}}"
SHOP = TEXT.replace(LAN, LAN[:-1] + ", shop: {port: eth2, prefix: 10.1.112.0/24}}")
OLD, NEW = Path("/run/old.yaml"), Path("/run/new.yaml")
# What others see of it at once; between two of these nothing happens that a death could tear.
PLACES = frozenset(
    {
        "rename",
        "unlink",
        "rmdir",
        "symlink",
        "fsync",
        "clone",
        "clone3",
        "fork",
        "vfork",
        "connect",
        "sendto",
        "sendmsg",
    }
)
# It asks until it hears what it waits for, by a program or a socket: the last of these may never come. A file's never.
ASKED_AGAIN = frozenset({"clone", "clone3", "fork", "vfork", "connect", "sendto", "sendmsg"})
TRIES = 3


WHAT = "a router's apply killed at each system call, with all its daemons: old or new"


def _apply() -> object:
    return change.apply(change.prepare(NEW, None), "to be killed")


def test_a_router_whose_apply_is_killed_anywhere_is_whole(vpn: Vpn) -> None:
    vpn.run("par1", "ip", "link", "add", "eth2", "type", "veth", "peer", "name", "shop")
    vpn.write("par1", str(OLD), TEXT)
    vpn.write("par1", str(NEW), SHOP)
    calls = [call for call in vpn.node("par1").call(partial(dying.traced, _apply), timeout_s=200) if _counts(call)]
    assert len(calls) > 30
    with dying.counted(WHAT, len(calls)) as count:
        for call in calls:
            if not any(_dies(vpn, call) for _ in range(TRIES)):
                count.missed(call.what)
                continue
            try:
                until(f"the way back from {call.what}", partial(_whole, vpn), within_s=60)
            except AssertionError as error:
                count.saw(call.what, str(error))
            else:
                count.saw(call.what)
    vpn.settle()
    assert not [what for what in count.unreached if what.partition(" ")[0] not in ASKED_AGAIN]
    assert len(count.unreached) <= len(calls) / 10, count.unreached


def _dies(vpn: Vpn, call: Call) -> bool:
    """At that place; False if an answer came sooner this time, so that it was done before."""
    assert vpn.dmvpn("par1", "apply", str(OLD), timeout_s=200).status == 0, call.what
    return bool(vpn.node("par1").call(partial(dying.killed_at, _apply, call), timeout_s=200))


def _counts(call: Call) -> bool:
    return call.name in PLACES


def _whole(vpn: Vpn) -> bool:
    """One of the two files is all of what is there, every service works, and no change is half-way."""
    if vpn.run("par1", "test", "-e", f"{vpn.layout.revisions}/journal.json").status == 0:
        return False
    if any(row.state.value != "ready" for row in vpn.services("par1").values()):
        return False
    shop = "10.1.112.1/24" in vpn.run("par1", "ip", "-4", "addr", "show", "dev", "eth2").text
    file = NEW if shop else OLD
    told = "10.1.112.0/24" in vpn.run("par1", "vtysh", "--vty_socket", str(vpn.layout.frr_run), "-c", "show run").text
    return told == shop and vpn.dmvpn("par1", "plan", str(file)).status == 0
