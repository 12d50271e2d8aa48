"""What a test of fail_closed_lab.py does to charon, and to a router from outside: told once, for both planes."""

import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from fail_closed_lab import (
    TAP,
    UP_LIMIT_S,
    Guard,
    answered,
    counters,
    direct,
    frames_to_plane,
    guarded_by,
    inject,
    move,
    on_the_wire,
    sas,
    send_signal,
    sent_more,
    settle,
    start_unit,
    stop_unit,
    swanctl,
    wait_for,
)

from dmvpn.lab.node import LabNode
from dmvpn.lab.running import Lab
from dmvpn.lab.stream import Stream
from dmvpn.linux.pace import patience

PEERS = 2  # of a spoke: the hub and the other one
SENDING = 10  # frames within a second, so that it does
ATTEMPTS = 60  # frames that the plane must have tried to send without an SA
FORGED = 50
EAST_MOVES = ("198.51.100.2", "198.51.100.3")
KEY = 1
REFUSALS = ("XfrmInPolBlock", "XfrmInTmplMismatch", "XfrmInNoPols")
# A LAN host's own address, another peer's, and our own, which would be a policy's.
FALSE_SOURCES = ("10.1.11.10", "100.64.0.1", "100.64.0.11")


def in_esp(seen: Counter[str]) -> int:
    """The kernel plane has no need of UDP where no NAT is."""
    return seen["esp_in_udp"] + seen["esp"]


def rekey_children(east: LabNode) -> None:
    old = {child for children in sas(east).values() for child in children}
    swanctl(east, "--rekey", "--child", "gre")
    wait_for(lambda: not old & {child for children in sas(east).values() for child in children}, "new children")


def rekey_ike(east: LabNode) -> None:
    old = set(sas(east))
    for unique_id in old:
        swanctl(east, "--rekey", "--ike-id", unique_id)
    wait_for(lambda: sas(east) and not old & set(sas(east)), "new IKE SAs")


def hang_while_sending(east: LabNode) -> None:
    """Not at a moment at which nothing is sent: then nothing is as long as it hangs, and nothing would be proved."""
    end = time.monotonic() + patience(UP_LIMIT_S)
    while True:
        send_signal(east, "dmvpnd", signal.SIGSTOP)
        before, looks = frames_to_plane(east), time.monotonic() + patience(1)
        while time.monotonic() < looks:
            if frames_to_plane(east) >= before + SENDING:
                return
        send_signal(east, "dmvpnd", signal.SIGCONT)
        assert time.monotonic() < end, "nothing was sent into the tunnel whenever dmvpnd hung"
        time.sleep(patience(0.2))


def unseen(east: LabNode, *events: Callable[[LabNode], None]) -> None:
    """While dmvpnd hangs, so that nobody takes the neighbour entries away and GRE is sent on and on."""
    hang_while_sending(east)
    try:
        for event in events:
            before = frames_to_plane(east)
            event(east)
            wait_for(lambda: frames_to_plane(east) >= before + ATTEMPTS, "frames without an SA to carry them")  # noqa: B023
    finally:
        send_signal(east, "dmvpnd", signal.SIGCONT)


def die(node: LabNode) -> None:
    """On the kernel plane the SAs outlive it."""
    send_signal(node, "charon", signal.SIGKILL)


def stop(node: LabNode) -> None:
    """SAs and policies go with it on both planes, on the userspace plane its routes too."""
    stop_unit(node, "charon")


def flush_xfrm(node: LabNode) -> None:
    """Our own policies that block go with charon's."""
    for what in ("policy", "state"):
        node.run(("ip", "xfrm", what, "flush"))


def one_each(count: int) -> bool:
    return count == PEERS


def tell_story(lab: Lab, flow: Stream, *, settled: Callable[[int], bool] = one_each) -> None:
    """`settled`: whether so many SAs are all that east will have."""
    east = lab.node("east")
    settle(flow, direct, "a direct path to begin with")
    wait_for(lambda: settled(len(sas(east))), "one SA with each peer")
    flow.mark()
    rekey_children(east)
    rekey_ike(east)
    sent_more(flow, ATTEMPTS)
    settle(flow, direct, "a direct path after the rekeyings")
    others = [packet for packet in flow.stretch() if not packet.direct]
    assert others == [], f"{len(others)} packets of {len(flow.stretch())}: {others[:3]}"
    unseen(east, die)
    settle(flow, answered, "the stream after charon's death")
    unseen(east, stop)
    start_unit(east, "charon")
    settle(flow, answered, "the stream after charon's clean stop")
    for old, new in (EAST_MOVES, EAST_MOVES[::-1]):
        move(lab, east, old, new)
        sent_more(flow, ATTEMPTS)
        settle(flow, answered, f"the stream after the uplink's address changed to {new}")


def towards_east(lab: Lab) -> None:
    """The WAN learns where the transport address is, as an ISP's customer in the same segment could."""
    wan = lab.node("internet")
    found = wan.run(("ip", "-o", "route", "get", "198.51.100.2")).text.split()
    device = found[found.index("dev") + 1]
    wan.run(("ip", "route", "replace", "100.64.0.11/32", "via", "198.51.100.2", "dev", device, "onlink"))


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of forgeries: packets that came out of the tunnel's device, and that each guard dropped.

    `arrived` also has, on the kernel plane, what came out of ESP: a capture on an uplink sees both.
    """

    arrived: int
    inside: int
    by_rules: int
    by_policies: int


def forge(lab: Lab, flow: Stream, kept: frozenset[Guard], source: str, target: str) -> Fate:
    east = lab.node("east")
    towards_east(lab)
    with guarded_by(lab, kept, "east"), ExitStack() as stack:
        settle(flow, direct, "a direct path, so that the sender is known")
        rules, policies = clear_in(east, kept), refusals(east)
        outside = stack.enter_context(on_the_wire(east, "eth0"))
        tunnel = stack.enter_context(on_the_wire(east, TAP))
        inner = ("10.1.12.10", "10.1.11.10")
        inject(lab.node("internet"), source, target, inner=inner, key=KEY, packets=FORGED)
        sent_more(flow, 10)  # what was injected before these has arrived before them
        settle(flow, answered, "the stream's next packets")
        return Fate(
            arrived=outside()["gre_in_clear"],
            inside=tunnel()["icmp"],
            by_rules=clear_in(east, kept) - rules,
            by_policies=refusals(east) - policies,
        )


def smuggle(lab: Lab, flow: Stream) -> None:
    """A LAN host of east sends GRE to a peer's transport address: not in clear, and not as if it were the router's."""
    settle(flow, direct, "a direct path")
    with on_the_wire(lab.node("internet")) as wan, on_the_wire(lab.node("west"), TAP) as tunnel:
        for source in FALSE_SOURCES:
            inject(
                lab.node("east-pc"), source, "100.64.0.12", inner=("10.1.11.10", "10.1.12.10"), key=KEY, packets=FORGED
            )
        sent_more(flow, 10)
        settle(flow, answered, "the stream's next packets")
        assert wan()["gre_in_clear"] == 0
        assert tunnel()["icmp"] == 0


def clear_in(node: LabNode, kept: frozenset[Guard]) -> int:
    return counters(node)["gre_clear_in"] if Guard.RULES in kept else 0


def refusals(node: LabNode) -> int:
    """What XFRM did not let in, for whatever reason; 0 where the kernel has none."""
    return node.call(_refusals)


def _refusals() -> int:
    path = Path("/proc/self/net/xfrm_stat")
    rows = (line.split() for line in path.read_text().splitlines()) if path.exists() else ()
    return sum(int(number) for name, number in rows if name in REFUSALS)
