"""systemd: a unit file for each process of ours, bound to one target. systemd.unit(5), .service(5), .exec(5).

The keeper in linux/systemd.py puts them under /etc/systemd/system. What a unit may do follows from its `needs` alone.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from dmvpn.render.layout import Layout
from dmvpn.render.result import Needs, Unit

RESTART_S = 1
READY_PROGRAM = "dmvpn.linux.ready"
_MARGIN_S = 10  # systemd's own time limit is the last resort: ours names the path that was missing

# What ProtectHome and PrivateTmp hide. A program that was installed there (pipx) is bound back in, read-only.
_HIDDEN = tuple(PurePosixPath(path) for path in ("/home", "/root", "/run/user", "/tmp", "/var/tmp"))

_RUN = "/run"

# Whatever a unit does, it needs none of this.
_SANDBOX = (
    "ProtectSystem=strict",
    "ProtectHome=tmpfs",
    "PrivateTmp=yes",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "LockPersonality=yes",
    "MemoryDenyWriteExecute=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "RemoveIPC=yes",
    "KeyringMode=private",
    "SystemCallArchitectures=native",
    "SystemCallErrorNumber=EPERM",
    "UMask=0022",
)


@dataclass(frozen=True, slots=True)
class Programs:
    """Where programs are on this machine, which a pure room cannot know. `roots`: what they load themselves from."""

    find: Callable[[str, str], str]  # name and Debian package
    roots: tuple[PurePosixPath, ...] = ()


def target(network: str) -> str:
    return f"dmvpn-{network}.target"


def boot_unit(network: str) -> str:
    """Runs before the others at boot: finishes or takes back a change that the machine went down in."""
    return f"dmvpn-{network}-boot.service"


def unit_files(network: str, units: Sequence[Unit], programs: Programs) -> dict[str, str]:
    """Every file by its name, the target last; empty without units."""
    if not units:
        return {}
    names = [f"{unit.name}.service" for unit in units]
    files = {boot_unit(network): _text(_boot(network, names, programs))}
    before = boot_unit(network)
    for unit, name in zip(units, names, strict=True):
        files[name] = _text(_service(network, unit, before, names[0], programs))
        before = name
    files[target(network)] = _text(_target(network, names))
    return files


def _text(lines: Iterator[str]) -> str:
    return (
        "# Written by dmvpn apply. Put changes of your own into a drop-in: systemctl edit.\n" + "\n".join(lines) + "\n"
    )


def _target(network: str, names: list[str]) -> Iterator[str]:
    yield from ("[Unit]", f"Description=OpenDMVPN network {network}")
    yield from (f"Wants={name}" for name in names)
    yield from ("", "[Install]", "WantedBy=multi-user.target")


def _boot(network: str, names: list[str], programs: Programs) -> Iterator[str]:
    yield from ("[Unit]", f"Description=OpenDMVPN {network}: finish or take back a change that a reboot cut short")
    yield from (f"PartOf={target(network)}", f"Before={' '.join(names)}")
    yield f"RequiresMountsFor=/etc/dmvpn {Layout(network).state}"
    yield from ("", "[Service]", "Type=oneshot", "RemainAfterExit=yes")
    yield f"ExecStart={_command((programs.find('dmvpn', 'opendmvpn'), 'run', '--at-boot', '--network', network))}"
    yield "TimeoutStartSec=300"
    # It may have begun who stands by until a change is confirmed, and his way back may stop this unit.
    yield "KillMode=process"
    # Not by the target: an apply under way starts that one as well.
    yield from ("", "[Install]", "WantedBy=multi-user.target")


def _service(network: str, unit: Unit, before: str, guard: str, programs: Programs) -> Iterator[str]:
    what = unit.name.removeprefix(f"dmvpn-{network}-")
    yield from ("[Unit]", f"Description=OpenDMVPN {network}: {what}", f"PartOf={target(network)}")
    yield f"After=network.target {before}"
    if f"{unit.name}.service" != guard:
        yield f"Requires={guard}"  # fail closed: without its rules nothing of ours may send
        yield f"After={guard}"
    yield f"RequiresMountsFor=/etc/dmvpn {Layout(network).state}"
    if unit.daemon:
        yield "StartLimitIntervalSec=0"  # a router that gave up would need somebody to drive there
    yield from ("", "[Service]")
    yield from _running(unit, programs)
    yield from ("", *_confined(network, unit, programs))


def _running(unit: Unit, programs: Programs) -> Iterator[str]:
    def command(argv: tuple[str, ...]) -> str:
        return _command((programs.find(argv[0], unit.package), *argv[1:]))

    if unit.daemon:
        yield from ("Type=exec", "Restart=always", f"RestartSec={RESTART_S}")
        # charon's children (swanctl, its scripts) end with it.
        yield "KillMode=mixed"
    else:
        yield from ("Type=oneshot", "RemainAfterExit=yes", "Restart=on-failure", f"RestartSec={RESTART_S}")
    yield "Environment=DMVPN_KEEPER=systemd LANG=C.UTF-8"
    yield from (f"Environment={_quoted(f'{name}={value}')}" for name, value in unit.environment)
    if unit.ready is not None:
        # `+`: it looks at the path as the machine sees it, not as the unit does.
        yield f"ExecStartPre=-+{command(('rm', '-f', str(unit.ready)))}"
    yield f"ExecStart={command(unit.argv)}"
    if unit.ready is not None:
        waiting = ("python3", "-m", READY_PROGRAM, str(unit.ready), f"{unit.start_timeout_s:g}")
        yield f"ExecStartPost=+{command(waiting)}"
    if unit.reload:
        # A daemon's way of reloading is another program, which talks to it and has needs of its own.
        yield f"ExecReload={'+' if unit.daemon else ''}{command(unit.reload)}"
    elif not unit.daemon:
        yield f"ExecReload={command(unit.argv)}"
    else:
        yield f"ExecReload={command(('kill', '-HUP'))} $MAINPID"
    if unit.stop:
        yield f"ExecStop=-{command(unit.stop)}"
    yield f"TimeoutStartSec={unit.start_timeout_s + _MARGIN_S:g}"
    yield "TimeoutStopSec=10"


def _confined(network: str, unit: Unit, programs: Programs) -> Iterator[str]:
    needs = unit.needs
    layout = Layout(network)
    yield f"RuntimeDirectory={layout.run.relative_to('/run')}"
    yield "RuntimeDirectoryPreserve=yes"
    if needs.machine:
        return
    yield from _SANDBOX
    # What a child of charon's may do is decided by the profile it changes into, which no_new_privs would forbid.
    yield f"NoNewPrivileges={'no' if needs.changes_profile else 'yes'}"
    yield f"CapabilityBoundingSet={' '.join(f'CAP_{name}' for name in needs.capabilities)}"
    yield f"RestrictAddressFamilies={' '.join(f'AF_{name}' for name in needs.families)}"
    yield f"RestrictNamespaces={' '.join(needs.namespaces) or 'yes'}"
    yield f"SystemCallFilter={' '.join(('@system-service', *needs.calls))}"
    yield f"ProtectKernelTunables={'no' if needs.tunes else 'yes'}"
    yield from _devices(needs)
    yield from (f"ReadWritePaths={path}" for path in needs.writes)
    yield from (f"ReadOnlyPaths={path}" for path in needs.spares)
    if all(str(place) != _RUN for _, place in unit.binds):
        # Part of ProtectSystem=strict, but systemd 252 forgets it when it protects control groups: units could be
        # written there.
        yield f"ReadOnlyPaths={_RUN}"
    # /proc as it is: who holds a port, and /proc/sys.
    for source, place in unit.binds:
        remembers = source.is_relative_to(layout.state)
        kind = "BindPaths" if remembers or place.is_relative_to("/run") else "BindReadOnlyPaths"
        if remembers:
            yield f"StateDirectory={source.relative_to('/var/lib')}"
        if place.is_relative_to("/run"):
            yield f"RuntimeDirectory={source.relative_to('/run')}"
        yield f"{kind}={source}:{place}"
    for root in programs.roots:
        if any(root.is_relative_to(hidden) for hidden in _HIDDEN):
            yield f"BindReadOnlyPaths={root}"


def _devices(needs: Needs) -> Iterator[str]:
    if not needs.devices:
        yield "PrivateDevices=yes"
        return
    yield "DevicePolicy=closed"
    yield from (f"DeviceAllow={device} rw" for device in needs.devices)


def _command(argv: Sequence[str]) -> str:
    return " ".join(_quoted(word.replace("$", "$$")) for word in argv)


def _quoted(word: str) -> str:
    """One word as systemd.syntax(7) reads it, with `%` meaning itself."""
    plain = word.replace("%", "%%")
    if plain and all(char.isalnum() or char in "-_./=:,@+%{}$!#/" for char in plain):
        return plain
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'
