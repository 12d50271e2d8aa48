"""GRE leaves and enters in ESP or not at all, towards peers of another make: transport mode, a trap policy, and no
transport address. What closes when charon is gone are the policies that block by the cloud's GRE key, and the rule set.
"""

import logging
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from fail_closed_lab import (
    TAP,
    Guard,
    answered,
    flowing,
    guarded_by,
    inject,
    on_the_wire,
    restart_unit,
    sent_more,
    settle,
    small_lab,
    start_unit,
    wait_for,
)
from fail_closed_story import (
    ATTEMPTS,
    FORGED,
    KEY,
    PEERS,
    clear_in,
    die,
    flush_xfrm,
    in_esp,
    refusals,
    rekey_children,
    rekey_ike,
    stop,
    tell_story,
    unseen,
)

from dmvpn.lab.foreign import LOGS
from dmvpn.lab.node import LabNode
from dmvpn.lab.running import Lab
from dmvpn.lab.stream import Stream

pytestmark = [pytest.mark.vm, pytest.mark.lab, pytest.mark.wide, pytest.mark.timeout(180)]

log = logging.getLogger(__name__)
NHRPD_PID = Path("/run/frr/nhrpd.pid")
FILE = Path(__file__).with_name("fail_closed_foreign.yaml")
STREAMS = (("east-pc", "west-pc"), ("hq-pc", "west-tv"))
WEST, WEST_MOVED, EAST = "203.0.113.2", "203.0.113.3", "198.51.100.2"
Wire = Callable[[], Counter[str]]


@dataclass(slots=True)
class Watched:
    """The lab; a stream from our spoke's host and one from our hub's to the foreign spoke's; what the WAN saw."""

    lab: Lab
    spoke: Stream
    hub: Stream
    counted: Wire

    def settle(self, what: str) -> None:
        for flow in (self.spoke, self.hub):
            settle(flow, answered, f"the streams {what}")


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    """The WAN is watched since before any router had its configuration."""
    with ExitStack() as stack:
        wire: list[Wire] = []
        flows: list[Stream] = []

        def watch(lab: Lab) -> None:
            wire.append(stack.enter_context(on_the_wire(lab.node("internet"))))
            flows.extend(stack.enter_context(flowing(lab, source, target)) for source, target in STREAMS)

        lab = stack.enter_context(small_lab("foreign", before_start=watch, file=FILE))
        yield Watched(lab, *flows, *wire)


def test_nothing_is_in_clear_whatever_becomes_of_charon(watched: Watched) -> None:
    lab = watched.lab
    hub, east = lab.node("hub"), lab.node("east")
    # Two traps can call each other at once, and both SAs stay.
    tell_story(lab, watched.spoke, settled=lambda count: count >= PEERS)
    settle(watched.hub, answered, "the hub's stream")
    rekey_children(hub)
    rekey_ike(hub)
    sent_more(watched.hub, ATTEMPTS)
    unseen(hub, die)
    watched.settle("after the death of the hub's charon")
    unseen(hub, stop)
    start_unit(hub, "charon")
    watched.settle("after a clean stop of the hub's charon")
    for node in (hub, east):
        unseen(node, flush_rules, stop)
        start_unit(node, "charon")
        restart_unit(node, "nftables")
        watched.settle(f"after a flush of the rules and charon's stop at {node.name}")
    move_west(lab, WEST, WEST_MOVED)
    sent_more(watched.hub, ATTEMPTS)
    watched.settle("after the foreign router's address changed")
    move_west(lab, WEST_MOVED, WEST)
    watched.settle("after it changed back")
    seen = watched.counted()
    log.info("%s", dict(seen))
    assert seen["gre_in_clear"] == 0
    assert in_esp(seen) > 1000


@pytest.mark.parametrize(
    ("kept", "events"),
    [
        pytest.param({Guard.RULES}, (flush_xfrm, stop), id="the rule set alone holds"),
        pytest.param({Guard.SENDER}, (stop,), id="policies that block the key alone hold"),
        pytest.param(set(), (stop,), id="without any of them it is seen"),
    ],
)
def test_each_guard_alone_keeps_gre_from_leaving_in_clear(
    watched: Watched, kept: set[Guard], events: tuple[Callable[[LabNode], None], ...]
) -> None:
    """At the hub, whose stream goes to the foreign spoke alone. The unreachable route is for transport addresses."""
    hub = watched.lab.node("hub")
    settle(watched.hub, answered, "the hub's stream to begin with")
    with guarded_by(watched.lab, frozenset(kept), "hub"), on_the_wire(watched.lab.node("internet")) as counted:
        unseen(hub, *events)
        seen = counted()
        start_unit(hub, "charon")
        settle(watched.hub, answered, "the stream after all that")
    log.info("guards %s: %s", sorted(kept), dict(seen))
    if kept:
        assert seen["gre_in_clear"] == 0
    else:
        assert seen["gre_in_clear"] >= ATTEMPTS / 2


# ---------------------------------------------------------------- inwards


@pytest.mark.parametrize(
    ("kept", "where"),
    [
        pytest.param({Guard.RULES}, "by_rules", id="the rule set alone holds"),
        pytest.param({Guard.SENDER}, "by_policies", id="policies that block the key alone hold"),
        pytest.param(set(), "inside", id="without any of them it does come in"),
    ],
)
def test_gre_in_clear_from_a_foreign_peers_address_does_not_come_in(
    watched: Watched, kept: set[Guard], where: str
) -> None:
    """While charon is stopped: as long as it runs, the templates of its own trap policy let nothing in."""
    east, wan = watched.lab.node("east"), watched.lab.node("internet")
    with guarded_by(watched.lab, frozenset(kept), "east"):
        stop(east)
        rules, policies = clear_in(east, frozenset(kept)), refusals(east)
        with on_the_wire(east, TAP) as tunnel:
            inject(wan, WEST, EAST, inner=("10.1.12.10", "10.1.11.10"), key=KEY, packets=FORGED)
            wan.run(("ping", "-c", "1", "-W", "10", EAST))  # what was injected before it has arrived before it
            inside = tunnel()["icmp"]
        fate = {
            "by_rules": clear_in(east, frozenset(kept)) - rules,
            "by_policies": refusals(east) - policies,
            "inside": inside,
        }
        start_unit(east, "charon")
    assert fate == {**dict.fromkeys(fate, 0), where: FORGED}
    watched.settle("after all that")


# ---------------------------------------------------------------- what happens to them


def flush_rules(node: LabNode) -> None:
    node.run(("nft", "flush", "ruleset"))


def move_west(lab: Lab, old: str, new: str) -> None:
    """Its uplink's address changes, and its administrator gives the tunnel the new one; its nhrpd is started anew."""
    west, wan = lab.node("west"), lab.node("internet")
    found = wan.run(("ip", "-o", "route", "get", old)).text.split()
    wan.run(("ip", "route", "replace", f"{new}/32", "dev", found[found.index("dev") + 1]))
    steps = f"""addr del {old}/29 dev eth0
addr add {new}/29 dev eth0
route replace default via 203.0.113.1 dev eth0
link set shut-blue type gre local {new}
"""
    west.run(("ip", "-batch", "-"), input=steps.encode())
    west.call(restart_nhrpd)


def restart_nhrpd() -> None:
    """Inside the router: with the words that the lab started it with."""
    pid = int(NHRPD_PID.read_text())
    argv = Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), "nhrpd's end")
    with (LOGS / "nhrpd.log").open("ab") as output:
        subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, cwd="/")
