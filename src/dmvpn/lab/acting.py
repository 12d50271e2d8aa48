"""The actions of a scenario, on a lab that is up: each gives its figures, or raises a Fault."""

import json
import os
import re
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any, assert_never

from dmvpn.errors import Fault
from dmvpn.lab import capture, scenario, stream, throughput
from dmvpn.lab.capture import Capture
from dmvpn.lab.expectation import follow, refusals, shown
from dmvpn.lab.impairment import Change, Direction
from dmvpn.lab.node import LabNode, Running
from dmvpn.lab.running import BOTH, Lab
from dmvpn.lab.scenario import Step, Way
from dmvpn.lab.story import Figures
from dmvpn.lab.stream import Packet, Stream
from dmvpn.linux import files
from dmvpn.linux.pace import patience
from dmvpn.linux.process import Result
from dmvpn.linux.process import shown as shown_output

PAUSE_S = 0.2  # between two looks at a condition
_LOOK_S = 0.02
DIRECTIONS = {"both": BOTH, "up": (Direction.UP,), "down": (Direction.DOWN,)}
RestartUnit = Callable[[LabNode, str, str], None]  # node, unit, "restart" or "kill"
Seen = Callable[[str], None]


@dataclass(slots=True)
class Stage:
    """What runs while a scenario does; `clear` ends all of it."""

    lab: Lab
    restart_unit: RestartUnit
    seen: Seen
    programs: dict[str, Running] = field(default_factory=dict)
    captures: dict[str, Capture] = field(default_factory=dict)
    streams: dict[str, Stream] = field(default_factory=dict)

    def clear(self) -> None:
        for running in self.programs.values():
            running.stop()
        for started in self.captures.values():
            started.stop()
            started.output.close()
        for flowing in self.streams.values():
            flowing.sender.stop(signal_number=signal.SIGKILL)
            flowing.echo.stop(signal_number=signal.SIGKILL)
            with suppress(OSError):
                os.close(flowing.records)

    def address(self, node: str) -> str:
        """A host's address, or the one under which the WAN sees a router. Raises Fault for a node that has neither."""
        self.lab.node(node)
        outside = self.lab.outside.get(node)
        if node not in self.lab.hosts and not outside:
            raise Fault(node, "is no host and no router", f"the lab's hosts are {', '.join(self.lab.hosts)}")
        return self.lab.hosts[node] if outside is None else str(outside[0])


def act(stage: Stage, step: Step) -> Figures:
    """Does what the step says. Raises Fault when it cannot."""
    name = step.id or ""
    match step.action:
        case scenario.Execute() as run:
            return _execute(stage, run)
        case scenario.Background(on=on, argv=argv):
            with Path(os.devnull).open("wb") as nothing:
                stage.programs[name] = stage.lab.node(on).start(argv, stdout=nothing, stderr=nothing)
            return {}
        case scenario.Stop(what=what):
            return {"status": stage.programs.pop(what).stop()}
        case (
            scenario.Impair()
            | scenario.Cut()
            | scenario.Heal()
            | scenario.Cables()
            | scenario.Renumber()
            | scenario.Restart()
        ) as changing:
            return _change(stage, changing)
        case scenario.MeasureThroughput(from_=source, to=target, seconds=seconds):
            nodes = stage.lab.node(source), stage.lab.node(target)
            measured = throughput.measure(*nodes, stage.address(target), seconds=seconds)
            return {"mbit_per_s": measured.mbit_per_s, "retransmits": measured.retransmits}
        case scenario.Wait() | scenario.Carry() as plain:
            _wait_or_carry(stage, plain)
            return {}
        case watching:
            return _watch_wire(stage, name, watching)


def _change(stage: Stage, action: scenario.Changing) -> Figures:
    match action:
        case scenario.Impair() as impair:
            after = stage.lab.impair(impair.link, Change.parse(impair.set_), DIRECTIONS[impair.direction])
            return {"up": str(after.up), "down": str(after.down)}
        case scenario.Cut() | scenario.Renumber() as change:
            _change_wan(stage, change)
            return {}
        case scenario.Heal() as heal:
            return _heal(stage, heal)
        case scenario.Restart(on=on, unit=unit, how=how):
            stage.restart_unit(stage.lab.node(on), unit, how)
            return {}
        case scenario.Cables(of=of, are=are):
            _plug(stage, stage.lab.node(of), are)
            return {}
        case _:
            assert_never(action)


def _plug(stage: Stage, node: LabNode, are: str) -> None:
    """Whoever is at the other end of a cable sees it too. The kernel forgets the routes of a device that is down."""
    links = json.loads(node.run(("ip", "-json", "link", "show", "type", "veth")).stdout)
    for link in links:
        node.run(("ip", "link", "set", str(link["ifname"]), "up" if are == "in" else "down"))
    if are == "in":
        stage.restart_unit(node, "network", "reload")


def _change_wan(stage: Stage, change: scenario.Cut | scenario.Renumber) -> None:
    match change:
        case scenario.Cut(path=(a, b)):
            stage.lab.cut_path(a, b)
        case scenario.Renumber(link=link):
            stage.lab.renumber(link)


def _watch_wire(stage: Stage, name: str, action: scenario.Watching) -> Figures:
    match action:
        case scenario.StartCapture(on=on, device=device):
            arriving = "in" if device == "any" else ""
            stage.captures[name] = capture.start(stage.lab.node(on), device, capture.in_memory(), arriving=arriving)
            return {}
        case scenario.CountCapture(capture=wanted):
            return dict(stage.captures.pop(wanted).counted())
        case scenario.StartStream(from_=source, to=target, every=every, octets=octets):
            nodes = stage.lab.node(source), stage.lab.node(target)
            address = stage.address(target)
            stage.streams[name] = stream.start(*nodes, address, interval_s=max(every, 0.001), octets=octets)
            return {}
        case scenario.UntilStream() as until:
            return _until(stage, until)
        case scenario.WatchStream(stream=wanted, for_=seconds):
            time.sleep(seconds)
            stage.streams[wanted].check()
            stage.streams[wanted].refresh()
            return _stretch(stage.streams[wanted], len(stage.streams[wanted].packets) - 1)
        case scenario.EndStream(stream=wanted):
            return _figures(stage.streams.pop(wanted).stop())
        case _:
            assert_never(action)


def _wait_or_carry(stage: Stage, plain: scenario.Wait | scenario.Carry) -> None:
    """Time passes, or a file goes from one node to another, through this process and nobody's disk."""
    if isinstance(plain, scenario.Wait):
        time.sleep(plain.seconds)
        return
    (start, path), (end, there) = (where.split(":", 1) for where in (plain.from_, plain.to))
    octets = stage.lab.node(start).call(partial(files.read, Path(path)))
    stage.lab.node(end).call(partial(files.write_secret, Path(there), octets))


def _heal(stage: Stage, heal: scenario.Heal) -> Figures:
    if heal.path is not None:
        stage.lab.heal_path(*heal.path)
    if heal.link is not None:
        stage.lab.heal(heal.link)
    if heal.path is None and heal.link is None:
        stage.lab.heal_all()
    return {}


def _execute(stage: Stage, run: scenario.Execute) -> Figures:
    """Until it answers as expected or the time is over; the last answer's refusals are what is told."""
    node = stage.lab.node(run.on)
    began = time.monotonic()
    while True:
        try:
            result = node.run(run.argv, timeout_s=run.limit, accept=range(256))
            document, why = _judged(run, result)
        except Fault as fault:
            document, why = None, [str(fault)]
        seconds = time.monotonic() - began
        if not why:
            kept = {name: follow(document, path) for name, path in run.keep.items()}
            return {"seconds": seconds, **{name: _figure(value) for name, value in kept.items()}}
        if seconds >= patience(run.within):
            raise Fault(" ".join((run.on, *run.argv)), "; ".join(why))
        stage.seen(why[0])
        time.sleep(PAUSE_S)


def _judged(run: scenario.Execute, result: Result) -> tuple[Any, list[str]]:
    why: list[str] = []
    if run.status is not None and result.status != run.status:
        said = shown_output(result.stderr) or shown_output(result.stdout)
        why.append(f"exit status {result.status}, not {run.status}" + (f": {said}" if said else ""))
    if run.matches is not None and re.search(run.matches, result.text, re.MULTILINE) is None:
        why.append(f"its output does not match {run.matches}")
    document: Any = None
    if run.json_ or run.keep:
        try:
            document = json.loads(result.stdout)
        except ValueError:
            return None, [*why, "its output is not JSON"]
    for path, expected in run.json_.items():
        why += [f"{path}: {refusal}" for refusal in refusals(expected, follow(document, path))]
    return document, why


def _until(stage: Stage, until: scenario.UntilStream) -> Figures:
    """A way is settled when the last so many packets took it, of those that no step has told about yet."""
    flowing = stage.streams[until.stream]
    began = time.monotonic()
    while True:
        flowing.check()
        flowing.refresh()
        replied = [packet for packet in flowing.packets[flowing.marked :] if packet.replied is not None]
        run = list(takewhile(partial(_goes, way=until.way), reversed(replied)))
        if len(run) >= until.packets:
            # The first of them is when it happened; the rest only confirm it.
            happened = run[-1].replied
            assert happened is not None
            return {
                "seconds": max(0.0, happened - began),
                "since_start_s": happened - flowing.packets[0].sent,
                **_stretch(flowing, replied[-1].sequence),
            }
        if time.monotonic() - began >= patience(until.within):
            lately = "no packet came back" if not replied else f"the last of {len(replied)} went {_way(replied[-1])}"
            raise Fault(f"stream {until.stream}", f"not {until.way} within {patience(until.within):g} s: {lately}")
        stage.seen(_way(replied[-1]) if replied else "no packet has come back yet")
        time.sleep(_LOOK_S)


def _goes(packet: Packet, way: Way) -> bool:
    return packet.direct if way is Way.DIRECT else packet.relayed


def _way(packet: Packet) -> str:
    routers = f"{packet.routers_there} routers there, {packet.routers_back} back"
    return (
        f"direct ({routers})" if packet.direct else f"relayed ({routers})" if packet.relayed else f"mixed ({routers})"
    )


def _stretch(flowing: Stream, last: int) -> Figures:
    """The figures since the last step; waits until each of these packets has its reply or has had its time."""
    deadline = time.monotonic() + stream.LATEST_REPLY_S
    packets = flowing.stretch(last)
    while any(packet.replied is None for packet in packets) and time.monotonic() < deadline:
        time.sleep(_LOOK_S)
        packets = flowing.stretch(last)
    flowing.marked += len(packets)
    return _figures(packets)


def _figures(packets: list[Packet]) -> Figures:
    counted = stream.Figures.of(packets)
    return {
        "sent": counted.sent,
        "received": counted.received,
        "lost": len(counted.lost),
        "lost_numbers": ", ".join(str(number) for number in counted.lost[:20]),
        "rtt_ms": counted.rtt_ms,
        "relayed_rtt_ms": counted.relayed_rtt_ms,
        "direct_rtt_ms": counted.direct_rtt_ms,
        "first_reply_s": counted.first_reply_s,
        "first_direct_s": counted.first_direct_s,
        "gap_s": counted.longest_gap_s,
        "direct": counted.direct,
        "relayed": counted.relayed,
    }


def _figure(value: Any) -> int | float | str | bool | None:
    return value if isinstance(value, int | float | str | bool) or value is None else shown(value)
