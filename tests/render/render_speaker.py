"""A router's FRR as rendered, in a namespace of its own."""

import json
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import render_plans as plans
from render_trees import stage
from render_wires import Namespaces, run, wait_for

from dmvpn.network.plan import Plan
from dmvpn.render.engines import render_all
from dmvpn.render.frr import bgpd_conf, bgpd_reload
from dmvpn.render.interfaces import LAST_METRIC
from dmvpn.render.layout import Layout
from dmvpn.render.learned import Learned


class Speaker:
    """One router's zebra and bgpd in a namespace, on a device with the cloud's name."""

    def __init__(self, namespaces: Namespaces, plan: Plan, directory: Path) -> None:
        self.plan, self.netns = plan, namespaces.add(plan.router)
        self.run_dir = directory / "run"
        self.tree = directory / "tree"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._namespaces, self.log_file = namespaces, directory / "log"
        self.tree.mkdir(parents=True)
        self.stage(plan)

    def stage(self, plan: Plan, known: Learned = plans.LEARNED) -> None:
        """What it is told to be: its part of the file, and of a hub what it has learned."""
        stage(plan, self.tree)
        (self.tree / "bgpd.conf").write_text(bgpd_conf(plan, known))

    def start(self) -> None:
        run("ip", "-n", self.netns, "link", "set", "acme-blue", "up")
        for prefix in self.plan.prefixes:
            dead_end = ("unreachable", str(prefix), "metric", str(LAST_METRIC), "proto", "79")
            run("ip", "-n", self.netns, "route", "add", *dead_end)
        run(*self.argv("frr-run"))
        for name in self.daemons():
            self.processes[name] = self._namespaces.start(self.netns, *self.argv(name), log=self.log_file)
            wait_for(lambda name=name: (self.run_dir / f"{name}.vty").exists(), f"{name} serves")  # type: ignore[misc]

    def reload(self) -> None:
        """A running bgpd takes the file as it is staged now."""
        reload = bgpd_reload(Layout("acme"), PurePosixPath("/etc/dmvpn/acme/current/bgpd.conf"))
        run("ip", "netns", "exec", self.netns, *self._here(reload))

    def daemons(self) -> tuple[str, ...]:
        """FRR's, in the order of their units."""
        names = [unit.name.removeprefix("dmvpn-acme-") for part in render_all(self.plan) for unit in part.units]
        return tuple(name for name in names if name in ("zebra", "bfdd", "bgpd"))

    def argv(self, unit: str, verb: str = "argv") -> tuple[str, ...]:
        units = {found.name: found for part in render_all(self.plan) for found in part.units}
        argv: tuple[str, ...] = getattr(units[f"dmvpn-acme-{unit}"], verb)
        return self._here(argv)

    def _here(self, argv: tuple[str, ...]) -> tuple[str, ...]:
        here = {
            "/run/dmvpn/acme/frr": str(self.run_dir),
            "/etc/dmvpn/acme/current": str(self.tree),
        }
        for there, path in here.items():
            argv = tuple(argument.replace(there, path) for argument in argv)
        return tuple(sys.executable if argument == "python3" else argument for argument in argv)

    def kernel_routes(self) -> set[str]:
        return {
            route["dst"] for route in json.loads(run("ip", "-n", self.netns, "-j", "route", "show", "proto", "bgp"))
        }

    def configure(self, *commands: str) -> None:
        """By hand, past the file: lines of bgpd's router."""
        words = [word for one in ("conf t", f"router bgp {self.plan.asn}", *commands) for word in ("-c", one)]
        run("vtysh", "--vty_socket", str(self.run_dir), "-d", "bgpd", *words)

    def show(self, command: str) -> dict[str, Any]:
        shown = json.loads(run("vtysh", "--vty_socket", str(self.run_dir), "-c", f"show {command} json"))
        assert isinstance(shown, dict)
        return shown


def readable(directory: Path) -> None:
    """pytest's directories are 0700, and FRR reads as a user of its own."""
    for one in (directory, *directory.parents):
        if one.stat().st_mode & 0o005 != 0o005 and one.is_relative_to("/tmp"):
            one.chmod(0o755)
