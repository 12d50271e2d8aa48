"""OpenRC: a script in /etc/init.d for each process of ours. openrc-run(8), supervise-daemon(8), Alpine's as Debian's.

OpenRC has no sandbox and no mount namespaces: `dmvpn.linux.launch` lays out what a process alone sees.
"""

import shlex
from collections.abc import Iterator, Sequence

from dmvpn.render.layout import Layout
from dmvpn.render.result import Unit
from dmvpn.render.systemd import READY_PROGRAM, RESTART_S, Programs

LAUNCH_PROGRAM = "dmvpn.linux.launch"
BOOT = "boot"


def scripts(network: str, units: Sequence[Unit], programs: Programs) -> dict[str, str]:
    """Every script by its name, in starting order."""
    if not units:
        return {}
    boot = f"dmvpn-{network}-{BOOT}"
    found = {boot: _text(_boot(network, programs))}
    before = boot
    for unit in units:
        found[unit.name] = _text(_script(network, unit, before, units[0].name, programs))
        before = unit.name
    return found


def _text(lines: Iterator[str]) -> str:
    return "#!/sbin/openrc-run\n# Written by dmvpn apply.\n" + "\n".join(lines) + "\n"


def _boot(network: str, programs: Programs) -> Iterator[str]:
    yield 'description="OpenDMVPN: finish or take back a change that a reboot cut short"'
    yield from ("depend() {", "\tafter localmount net", "}")
    command = (programs.find("dmvpn", "opendmvpn"), "run", "--at-boot", "--network", network)
    yield from ("start() {", '\tebegin "Looking at network $RC_SVCNAME"', f"\t{_shell(command)}", "\teend $?", "}")


def _script(network: str, unit: Unit, before: str, guard: str, programs: Programs) -> Iterator[str]:
    what = unit.name.removeprefix(f"dmvpn-{network}-")

    def command(argv: Sequence[str]) -> str:
        return _shell((programs.find(argv[0], unit.package), *argv[1:]))

    yield f"description={shlex.quote(f'OpenDMVPN {network}: {what}')}"
    yield from (f"export {shlex.quote(f'{name}={value}')}" for name, value in unit.environment)
    yield "export DMVPN_KEEPER=openrc"
    if unit.daemon:
        yield from _daemon(network, unit, programs)
    yield from ("extra_started_commands=reload", "depend() {", f"\tafter net {before}")
    yield from ((f"\tneed {guard}",) if unit.name != guard else ())
    yield from ("}", "start_pre() {", f"\tmkdir -p {Layout(network).run}/log")
    yield from ((f"\trm -f {unit.ready}",) if unit.ready is not None else ())
    yield "}"
    if unit.ready is not None:
        waiting = ("python3", "-m", READY_PROGRAM, str(unit.ready), f"{unit.start_timeout_s:g}")
        yield from ("start_post() {", f"\t{command(waiting)}", "}")
    if not unit.daemon:
        yield from ("start() {", f'\tebegin "Setting {what} of {network}"', f"\t{command(unit.argv)}", "\teend $?", "}")
        undone = command(unit.stop) if unit.stop else ":"
        yield from ("stop() {", f'\tebegin "Taking {what} of {network} away"', f"\t{undone}", "\teend $?", "}")
    reloading = command(unit.reload or unit.argv) if unit.reload or not unit.daemon else _hangup(unit)
    yield from ("reload() {", f"\t{reloading}", "}")


def _daemon(network: str, unit: Unit, programs: Programs) -> Iterator[str]:
    argv = (programs.find(unit.argv[0], unit.package), *unit.argv[1:])
    if unit.binds:
        places = [word for source, place in unit.binds for word in ("--bind", f"{source}:{place}")]
        argv = (programs.find("python3", ""), "-m", LAUNCH_PROGRAM, *places, "--", *argv)
    log = Layout(network).run / "log" / f"{unit.name}.log"
    yield from ("supervisor=supervise-daemon", f"command={shlex.quote(argv[0])}")
    yield f"command_args={shlex.quote(_shell(argv[1:]))}"
    yield from (f"output_log={log}", f"error_log={log}", f"respawn_delay={RESTART_S}", "respawn_max=0")
    yield "retry=TERM/10/KILL/5"


def _hangup(unit: Unit) -> str:
    return f"supervise-daemon {unit.name} --signal HUP"


def _shell(words: Sequence[str]) -> str:
    return " ".join(shlex.quote(word) for word in words)
