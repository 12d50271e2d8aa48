"""What a hub learned of its spokes, brought to its bgpd: the file in force and learned.json in, one file out.

The renderer is the one writer: this step gives it both inputs. bgpd starts with the file in force, which has no spoke,
and is brought from there to the whole in one batch: FRR 8.4 copies its whole configuration at each prefix list line
that it reads from a file, two minutes for 300 spokes. The unit runs after bgpd has started, and again whenever the
file in force, bgpd's process, or what dmvpnd learned is another.

No part of a revision, so neither `plan` nor `history` takes a spoke that came for a change of the operator. What bgpd
was brought to is kept; a hand edit of that is known by its last line, and set aside.
"""

import hashlib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from dmvpn.commit.difference import show
from dmvpn.errors import Fault
from dmvpn.linux import files, process, vtysh
from dmvpn.network.plan import Plan
from dmvpn.operations import reading
from dmvpn.operations.here import Here
from dmvpn.render import frr, frr_delta, learned
from dmvpn.render.layout import Layout
from dmvpn.render.result import File, Rendered

SEAL = "! sealed "
FILE_LIMIT_OCTETS = 64 << 20
RELOAD_LIMIT_S = 600.0  # frr-reload.py of an operator's change, beside a thousand spokes
CHECK_LIMIT_S = 20.0
CLEARED_AT_ONCE = 64
log = logging.getLogger("learned")


def refresh(here: Here, router: str) -> bool:
    """Have bgpd know what the file in force and learned.json say now; whether that changed anything. Raises Fault."""
    target = Path(here.layout.bgpd_file)
    process_now = _process(here.layout)
    if not process_now:
        raise Fault("bgpd", "does not run", "dmvpn run")
    kept = _current(target)
    text = frr.bgpd_conf(_plan(here, router), _known(here))
    if kept == sealed(text, process_now):
        return False
    if kept and not is_sealed(kept):
        aside = target.with_name(f"{target.name}.edited")
        files.write(aside, kept)
        log.warning("%s was edited by hand: kept as %s, and written anew", target, aside)
    staged = target.with_name(f"{target.name}.new")
    files.write(staged, text)
    process.run(("vtysh", "-C", "-f", str(staged)), timeout_s=CHECK_LIMIT_S, package="frr")
    _bring(here.layout, _known_to(here, kept, process_now), text, staged)
    # Only now: whoever dies before has it done again.
    files.write(target, sealed(text, process_now))
    files.remove(staged)
    return True


def _known_to(here: Here, kept: str, process_now: str) -> str:
    """What the bgpd that runs has been told: what was kept for it, or as a new one the file in force."""
    if is_sealed(kept) and kept.endswith(f" {process_now}\n"):
        return kept
    in_force = files.read_text(Path(here.layout.current) / frr.BGPD_FILE, limit_octets=FILE_LIMIT_OCTETS)
    # An edited one is of no use: then everything is compared.
    return in_force if is_sealed(kept) or not kept else ""


def edited(here: Here) -> str | None:
    """The file that bgpd reads, if somebody changed it by hand."""
    target = Path(here.layout.bgpd_file)
    text = _current(target)
    return str(target) if text and not is_sealed(text) else None


def edits(here: Here, router: str) -> tuple[str, ...]:
    """Unified diff of that change, from what would be written now."""
    if edited(here) is None:
        return ()
    found = "".join(
        line for line in _current(Path(here.layout.bgpd_file)).splitlines(keepends=True) if not line.startswith(SEAL)
    )
    return tuple(show(_part(here, frr.bgpd_conf(_plan(here, router), _known(here))), _part(here, found)))


def _part(here: Here, text: str) -> tuple[Rendered]:
    return (Rendered(frr.NAME, (File(here.layout.bgpd_file.relative_to("/"), text),)),)


def sealed(text: str, of_process: str) -> str:
    """With a last line that tells whether somebody has edited what is above it, and which bgpd was brought there."""
    return f"{text}{SEAL}{hashlib.sha256((text + of_process).encode()).hexdigest()} {of_process}\n"


def is_sealed(text: str) -> bool:
    body, _, seal = text.rpartition(SEAL)
    return sealed(body, seal.strip().partition(" ")[2]) == text


def _process(layout: Layout) -> str:
    """Which bgpd serves now, by its socket; empty if none does."""
    path = Path(layout.frr_run) / "bgpd.vty"
    if not vtysh.is_served(path.parent, "bgpd"):
        return ""
    with files.faults(path):
        facts = path.stat()
    return f"{facts.st_ino}.{facts.st_ctime_ns}"


def _bring(layout: Layout, before: str, after: str, staged: Path) -> None:
    """A running bgpd from one file to the other. Raises Fault."""
    change = frr_delta.delta(before, after) if before else frr_delta.UNKNOWN
    whole = not change.is_all
    if change.lines:
        lines = staged.with_name(f"{staged.name}.lines")
        files.write(lines, "\n".join([*change.lines, ""]))
        try:
            _vtysh(layout, "-f", str(lines))
        except Fault as fault:  # it had something else than `before`
            log.warning("bgpd is brought to the whole file, since it does not take the change: %s", fault)
            whole = True
        files.remove(lines)
    if whole:
        reload = frr.bgpd_reload(layout, layout.bgpd_file.with_name(staged.name))
        process.run(reload, timeout_s=RELOAD_LIMIT_S, package="frr-pythontools")
    _hear_again(layout, change.again)


def _hear_again(layout: Layout, addresses: Sequence[str]) -> None:
    """A new prefix list counts for what comes; what came is asked for once more, and the session stays."""
    for first in range(0, len(addresses), CLEARED_AT_ONCE):
        commands = (
            word
            for address in addresses[first : first + CLEARED_AT_ONCE]
            for word in ("-c", f"clear bgp {'ipv6' if ':' in address else 'ipv4'} unicast {address} soft in")
        )
        _vtysh(layout, *commands)


def _vtysh(layout: Layout, *words: str) -> None:
    argv = ("vtysh", "--vty_socket", str(layout.frr_run), "-d", "bgpd", *words)
    process.run(argv, timeout_s=RELOAD_LIMIT_S, package="frr")


def _plan(here: Here, router: str) -> Plan:
    # BGP is the same on both planes, and has none of the file's secrets.
    return reading.plan_without_secrets(reading.in_force(here), router)


def _known(here: Here) -> learned.Learned:
    path = Path(here.layout.learned)
    if not path.exists():
        return learned.NOTHING
    return learned.parse(files.read_text(path, limit_octets=FILE_LIMIT_OCTETS), here.network)


def _current(target: Path) -> str:
    return files.read_text(target, limit_octets=FILE_LIMIT_OCTETS) if target.exists() else ""


def run(arguments: Sequence[str]) -> int:
    """`python -m dmvpn.operations.learned NETWORK ROUTER`: the unit's process. Its exit status."""
    network, router = arguments
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    try:
        refresh(Here(network, Layout(network)), router)
    except Fault as fault:
        log.error("%s", fault)
        return fault.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
