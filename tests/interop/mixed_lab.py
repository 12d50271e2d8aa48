"""A lab with routers of both kinds, asked in the words of each."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from dmvpn.daemon.control import NodeStatus, PeerRow
from dmvpn.errors import Fault
from dmvpn.lab import frr10
from dmvpn.lab.foreign import LOGS
from dmvpn.lab.running import Lab
from dmvpn.linux.pace import patience
from dmvpn.operations import labs, observing
from dmvpn.operations.here import Here
from dmvpn.render.layout import Layout

NETWORKS = Path(__file__).parent / "networks"
LOOK_S = 0.5
PASSWORD, WRONG_PASSWORD = "cisco123", "cisco321"
Found = TypeVar("Found")


class Kind(StrEnum):
    """How a lab differs from its file. FRR10: all foreign routers are FRR 10, with IPsec and Cisco authentication."""

    IPSEC = "ipsec"
    CLEAR = "clear"
    FRR10 = "frr10"


needs_frr10 = pytest.mark.skipif(bool(frr10.why_not()), reason=frr10.why_not())
with_frr10 = pytest.param(Kind.FRR10, marks=needs_frr10)


def until(what: str, condition: Callable[[], Found], *, within_s: float) -> Found:
    """The first true answer of `condition`; fails the test, with the last answer, when there is none in time.

    A Fault is an answer too: a daemon that has just started says nothing yet, an emulated one for long.
    """
    deadline = time.monotonic() + patience(within_s)
    while True:
        last: object
        try:
            found = condition()
            if found:
                return found
            last = found
        except Fault as fault:
            last = fault
        assert time.monotonic() < deadline, f"{what}: not within {within_s:g} s (last: {last!r})"
        time.sleep(LOOK_S)


@dataclass(frozen=True, slots=True)
class Mixed:
    """A lab that is up; `lans` is each router's own address in its site's network."""

    lab: Lab
    lans: dict[str, str]

    def run(self, router: str, *argv: str, timeout_s: float = 60.0) -> str:
        """What a program says on a router, however it ends."""
        return self.lab.node(router).run(labs.inside(argv), timeout_s=timeout_s, accept=range(-64, 256)).text

    def ping(self, source: str, target: str, count: int = 5) -> int:
        """How many of `count` echo requests from LAN to LAN were answered."""
        argv = ("ping", "-c", str(count), "-i", "0.2", "-W", "5", "-I", self.lans[source], self.lans[target])
        said = self.run(source, *argv)
        return int(said.rsplit(" received", 1)[0].rsplit(" ", 1)[-1]) if " received" in said else 0

    def routes(self, router: str) -> str:
        return self.run(router, "ip", "route", "show", "table", "all")

    # ------------------------------------------------------------ ours

    def status(self, router: str) -> NodeStatus:
        here = Here(self.lab.network, Layout(self.lab.network))
        return self.lab.node(router).call(partial(observing.status, here))

    def peer(self, router: str, name: str) -> PeerRow | None:
        """A peer by its router's name, once it is up."""
        return next((row for row in self.status(router).peers if row.name == name and row.layer == "UP"), None)

    def route_to(self, router: str, prefix: str, via: str) -> bool:
        """FRR's own kernel routes name a next hop object between: PREFIX nhid N via ADDRESS."""
        rows = (line.split() for line in self.routes(router).splitlines())
        return any(row[0] == prefix and via in row[1:] for row in rows if row)

    # ------------------------------------------------------------ theirs

    def vty(self, router: str, command: str) -> Any:
        """What FRR on a foreign router says to a show command that ends in json."""
        said = self.run(router, "vtysh", "-c", command)
        return json.loads(said[said.index("{") :]) if "{" in said else {}

    def nhrp_cache(self, router: str) -> dict[str, dict[str, Any]]:
        """nhrpd's cache by protocol address."""
        return {row["protocol"]: row for row in self.vty(router, "show ip nhrp cache json").get("table", ())}

    def nhrp_shortcuts(self, router: str) -> dict[str, str]:
        """nhrpd's shortcuts: prefix and next hop."""
        rows = self.vty(router, "show ip nhrp shortcut json").get("table", ())
        return {row["prefix"]: row["via"] for row in rows if row["type"] == "dynamic"}

    def set_password(self, router: str, password: str) -> None:
        """On a foreign router, for its tunnel."""
        words = ("configure terminal", f"interface {self.lab.network}-blue", f"ip nhrp authentication {password}")
        said = self.run(router, "vtysh", *(part for word in words for part in ("-c", word)))
        assert "Unknown command" not in said, said

    def nhrpd_said(self, router: str) -> str:
        """The log of a foreign router's nhrpd."""
        return self.run(router, "cat", str(LOGS / "nhrpd.log"))

    def child_sas(self, router: str) -> tuple[str, ...]:
        """The XFRM modes of the SAs of a router, one for each direction."""
        said = self.run(router, "ip", "xfrm", "state")
        return tuple(line.split("mode ", 1)[1].split()[0] for line in said.splitlines() if " mode " in line)

    def shortcut_of_ours(self, router: str, theirs: str, prefix: str, overlay: str) -> None:
        """Traffic gives our spoke a shortcut to one of theirs, which answers. Fails the test when it does not."""

        def found() -> bool:
            self.ping(router, theirs, 4)
            return self.route_to(router, prefix, overlay)

        assert until("a shortcut", found, within_s=90)
        # FRR sends over its own way back before its trap policy has an SA.
        assert until("a ping", lambda: self.ping(router, theirs) == 5, within_s=60)

    def shortcut_of_theirs(self, router: str, ours: str, prefix: str, overlay: str) -> None:
        """The same from one of theirs to one of ours."""

        def found() -> bool:
            self.ping(router, ours, 4)
            return self.nhrp_shortcuts(router).get(prefix) == overlay

        assert until("a shortcut", found, within_s=90)
        assert until("a ping", lambda: self.ping(router, ours) == 5, within_s=60)


@contextmanager
def held(name: str, lans: dict[str, str], tmp: Path, kind: Kind = Kind.IPSEC) -> Iterator[Mixed]:
    """The lab of one of NETWORKS."""
    text = (NETWORKS / f"{name}.yaml").read_text()
    match kind:
        case Kind.IPSEC:
            pass
        case Kind.CLEAR:
            text = replaced(text, "gre-key: 1,", "gre-key: 1, crypto: none,")
        case Kind.FRR10:
            secret = tmp / "nhrp-secret"
            secret.write_text(PASSWORD)
            secret.chmod(0o600)
            text = replaced(text, "holding-time: 60", "holding-time: 60, secret: {file: nhrp-secret}")
            theirs = [word.strip(" :") for word in text.splitlines() if word.strip().startswith("fr")]
            text = replaced(text, "\nlab:\n", f"\nlab:\n  frr10: [{', '.join(theirs)}]\n")
    file = tmp / f"{name}.yaml"
    file.write_text(text)
    with labs.held(file, f"interop-{os.getpid()}", lambda _progress: None) as lab:
        yield Mixed(lab, lans)


def replaced(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new)
