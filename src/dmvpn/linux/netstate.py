"""`python -m dmvpn.linux.netstate apply|restore|remove FILE`: devices, addresses, routes, rules, policies and sysctls.

To restore is to apply again, when the file changed or a device came back: what somebody switched off meanwhile stays
off then, and so does what is on it.

What was put there is recorded, so that applying another file takes away what is gone from it, and nothing that somebody
else put there is ever taken away. Networks on one machine have uplinks, LANs and default routes in common: what two
say is in both records, and goes with the last of them. Applied twice it changes nothing. All is checked before the
first change. Sysctls stay as set, since somebody else may rely on them by then; what they were is remembered for
`dmvpn uninstall`.
"""

import os
import sys
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from dmvpn.errors import Fault, WrongInput
from dmvpn.linux import files, netstate_ports, sysctl_memory
from dmvpn.linux.netstate_absent import brought_by, switched_off, without_absent, without_off
from dmvpn.linux.netstate_facts import LinkFacts
from dmvpn.linux.netstate_file import Device, NetState, Route, encode, load, locked
from dmvpn.linux.netstate_kernel import Kernel
from dmvpn.linux.netstate_links import Brought
from dmvpn.linux.netstate_policies import Policies
from dmvpn.linux.sysctl import sysctl_faults, sysctl_holds, sysctl_path, sysctl_value

_LINK_KINDS = {"tap": "tun", "gre": "gre"}  # IFLA_INFO_KIND of each of our kinds


def apply(path: Path) -> tuple[str, ...]:
    """Make the kernel have what the file says. The warnings are for the log. Raises Fault; see check()."""
    return _apply(path, restoring=False)


def restore(path: Path) -> tuple[str, ...]:
    """The same, but for what somebody switched off since it was applied."""
    return _apply(path, restoring=True)


def _apply(path: Path, *, restoring: bool) -> tuple[str, ...]:
    wanted = load(path)
    with locked(wanted.state), Kernel() as kernel, ExitStack() as stack:
        before = _recorded(wanted)
        # Without a policy no XFRM is needed: the userspace plane runs where the kernel has none.
        policing = stack.enter_context(Policies()) if wanted.policies or before.policies else None
        links = kernel.links()
        addresses = kernel.addresses()
        tables = {route.table for route in (*wanted.routes, *before.routes)}
        routes = kernel.routes(tables)
        rules = kernel.rules()
        policies = policing.present() if policing is not None else set()
        neighbours = _neighbours(wanted)
        known = _union(before, neighbours)
        wanted, warnings_of_absent = without_absent(wanted, links)
        off = switched_off(wanted, known.links.brought, links) if restoring else frozenset()
        wanted = without_off(wanted, off)
        asked = wanted.links
        made = netstate_ports.ours(asked, known.links, links, {row.device for row in wanted.addresses})
        wanted = replace(wanted, links=made)
        check(wanted, before, links, routes, neighbours)
        netstate_ports.check(made, known.links, links, addresses - set(known.addresses))
        ours = replace(
            wanted,
            addresses=tuple(row for row in wanted.addresses if row in known.addresses or row not in addresses),
            routes=tuple(row for row in wanted.routes if row in known.routes or row not in routes),
            rules=tuple(row for row in wanted.rules if row in known.rules or row not in rules),
            policies=tuple(row for row in wanted.policies if row in known.policies or row not in policies),
            sysctls=(),
        )
        # Recorded before it is done: dying halfway must leave nothing that nobody owns.
        # A bond that we take down to change it was not switched off by somebody.
        down = netstate_ports.taken_down(made, links) - off
        left = (device for device in before.links.brought if device.name not in down)
        down_rows = (Brought(name, 0) for name in sorted(down))
        files.write(wanted.state, encode(_with_brought(_union(before, ours), (*left, *down_rows))))
        # What blocks stands before there is anything that could send, and goes after it.
        for policy in wanted.policies:
            if policing is not None and policy not in policies:
                policing.add(policy)
        gone = _difference(_difference(before, wanted), neighbours)
        _take_away(kernel, gone, off)
        warnings = [*warnings_of_absent, *netstate_ports.stand_ins(asked, made, links)]
        named = {device.name for device in brought_by(wanted, links)} | made.made
        warnings += [f"device {name}: somebody switched it off; it stays so" for name in sorted(off & named)]
        warnings += netstate_ports.bring(kernel, made, off)
        _devices(kernel, wanted, links)
        _stop_blocking(policing, gone)  # until now a device may have had the key of one of them
        _addresses(kernel, wanted, kernel.links(), off)
        links = kernel.links()
        # Before what may be refused: who switches one of them off from now on means it.
        files.write(wanted.state, encode(_with_brought(_union(before, ours), brought_by(wanted, links))))
        # Taking a device, an address or a route away may have taken others with it.
        present = kernel.routes(tables)
        for route in sorted(wanted.routes, key=_route_order):
            if route not in present:
                kernel.add_route(route, _index_of(links, route))
        present_rules = kernel.rules()
        for rule in wanted.rules:
            if rule not in present_rules:
                kernel.add_rule(rule)
        warnings += _sysctls(wanted)
        files.write(wanted.state, encode(_with_brought(ours, brought_by(wanted, kernel.links()))))
    return tuple(warnings)


def remove(path: Path) -> None:
    """Take away what we recorded for the network of this file and no other network has too. Raises Fault."""
    wanted = load(path)
    with locked(wanted.state), Kernel() as kernel, ExitStack() as stack:
        gone = _difference(_recorded(wanted), _neighbours(wanted))
        policing = stack.enter_context(Policies()) if gone.policies else None
        _take_away(kernel, gone, ())
        _stop_blocking(policing, gone)
        files.remove(wanted.state)


def check(
    wanted: NetState, before: NetState, links: dict[str, LinkFacts], routes: set[Route], neighbours: NetState
) -> None:
    """Refuse, before anything is touched, what cannot work or would take something from somebody else."""
    made = {device.name for device in wanted.devices} | wanted.links.made
    mine_before = {device.name for device in before.devices}
    for device in wanted.devices:
        link = links.get(device.name)
        if link and device.name not in mine_before and not _lost(device, link):
            fix = "rename it, or choose another name for the network or cloud"
            raise Fault(f"device {device.name}", "exists already and is not ours", fix)
    if any(device.kind == "tap" for device in wanted.devices) and not Path("/dev/net/tun").exists():
        raise Fault("/dev/net/tun", "is missing", "load the module tun, or give the container /dev/net/tun")
    named = [(row.device, f"address {row.address}") for row in wanted.addresses]
    named += [(route.device, f"route {route.prefix}") for route in wanted.routes if route.device is not None]
    for name, what in named:
        if name not in links and name not in made:
            raise Fault(f"device {name}", f"there is no such device for {what}", "see `ip link`")
    _check_routes(wanted, {_slot(route): route for route in routes if route not in before.routes}, neighbours)
    for name, value in wanted.sysctls:
        now = sysctl_value(name)
        if now is not None and not sysctl_holds(name, value) and not os.access(sysctl_path(name), os.W_OK):
            with sysctl_faults(name, value):
                raise OSError(30, f"is {now}, and /proc/sys is read-only here")


def _check_routes(wanted: NetState, others: dict[tuple[object, ...], Route], neighbours: NetState) -> None:
    for route in wanted.routes:
        other = others.get(_slot(route), route)
        if other == route:
            continue
        where = f"route {route.prefix} table {route.table}"
        if other.protocol != route.protocol:
            what = f"somebody else (protocol {other.protocol}) has it already with metric {other.metric}"
            raise Fault(where, what, "remove it or change its metric")
        if other in neighbours.routes:
            what = f"another network of this machine has it already with metric {other.metric}"
            raise Fault(where, what, "write the same in the files of both")


def _lost(device: Device, link: LinkFacts) -> bool:
    """One of ours whose record was lost: a TAP with our own MAC, a GRE device with our key and no end of its own."""
    if link.gre is not None:
        return device.kind == "gre" and not link.gre.fixed and link.gre.key == device.key
    return device.kind == "tap" and link.kind == "tun" and link.mac == device.mac


def _recorded(wanted: NetState) -> NetState:
    if not wanted.state.exists():
        return NetState(wanted.network, wanted.state)
    return load(wanted.state)


def _neighbours(wanted: NetState) -> NetState:
    """All that other networks have recorded, each in a directory of its name beside ours."""
    found = NetState(wanted.network, wanted.state)
    for path in sorted(wanted.state.parent.parent.glob(f"*/{wanted.state.name}")):
        if path == wanted.state:
            continue
        other = load(path)
        if other.network == path.parent.name:
            found = _union(found, other)
    return found


def _union(one: NetState, other: NetState) -> NetState:
    # A device whose settings changed is in both; the later one counts.
    devices = {device.name: device for device in (*one.devices, *other.devices)}
    return replace(
        other,
        devices=tuple(devices.values()),
        addresses=tuple(dict.fromkeys((*one.addresses, *other.addresses))),
        routes=tuple(dict.fromkeys((*one.routes, *other.routes))),
        rules=tuple(dict.fromkeys((*one.rules, *other.rules))),
        policies=tuple(dict.fromkeys((*one.policies, *other.policies))),
        links=one.links.together(other.links),
    )


def _with_brought(state: NetState, brought: tuple[Brought, ...]) -> NetState:
    return replace(state, links=replace(state.links, brought=brought))


def _difference(before: NetState, wanted: NetState) -> NetState:
    # A device of another kind (the other plane's) is another device.
    kept = {(device.name, device.kind) for device in wanted.devices}
    return replace(
        before,
        devices=tuple(device for device in before.devices if (device.name, device.kind) not in kept),
        addresses=tuple(row for row in before.addresses if row not in wanted.addresses),
        routes=tuple(row for row in before.routes if row not in wanted.routes),
        rules=tuple(row for row in before.rules if row not in wanted.rules),
        policies=tuple(row for row in before.policies if row not in wanted.policies),
        links=before.links.without(wanted.links),
    )


def _take_away(kernel: Kernel, gone: NetState, off: Collection[str]) -> None:
    """In the reverse order of adding, and only what is still as we made it."""
    rules = kernel.rules()
    routes = kernel.routes({route.table for route in gone.routes})
    links = kernel.links()
    for rule in gone.rules:
        if rule in rules:
            kernel.remove_rule(rule)
    for route in sorted(gone.routes, key=_route_order, reverse=True):
        if route in routes:
            kernel.remove_route(route, _index_of(links, route))
    addresses = kernel.addresses()
    for row in gone.addresses:
        if row in addresses:
            kernel.remove_address(row, links[row.device].index)
    for device in gone.devices:
        link = links.get(device.name)
        if link is not None and link.kind == _LINK_KINDS[device.kind]:
            kernel.delete_link(link)
    netstate_ports.take_away(kernel, gone.links, off)


def _stop_blocking(policing: Policies | None, gone: NetState) -> None:
    for policy in gone.policies:
        if policing is not None:
            policing.remove(policy)


def _devices(kernel: Kernel, wanted: NetState, links: dict[str, LinkFacts]) -> None:
    loopback = links.get("lo")
    if loopback is not None and not loopback.up:
        kernel.set_up(loopback)
    links = kernel.links()  # the other plane's device of this name may just have gone
    for device in wanted.devices:
        if device.name not in links:
            kernel.create_gre(device) if device.kind == "gre" else kernel.create_tap(device)
    links = kernel.links()
    for device in wanted.devices:
        kernel.shape(device, links[device.name])


def _addresses(kernel: Kernel, wanted: NetState, links: dict[str, LinkFacts], off: Collection[str]) -> None:
    present = kernel.addresses()
    for row in wanted.addresses:
        if row not in present:
            kernel.add_address(row, links[row.device].index)
    for name in {row.device for row in wanted.addresses} - set(off):
        if not links[name].up:
            kernel.set_up(links[name])


def _sysctls(wanted: NetState) -> tuple[str, ...]:
    """Written only when different. One of a device that we made may not be writable: that is a warning."""
    warnings = []
    values = dict(wanted.sysctls)
    others = [name for name, value in values.items() if not sysctl_holds(name, value)]
    before = {name: now for name in others if (now := sysctl_value(name)) is not None}
    sysctl_memory.remember(wanted.state.parent, before, values)
    for name, value in values.items():
        if sysctl_holds(name, value):  # asked again, since ip_forward sets others
            continue
        try:
            with sysctl_faults(name, value):
                sysctl_path(name).write_text(value)
        except Fault as fault:
            warnings.append(str(fault))
    return tuple(warnings)


def _index_of(links: dict[str, LinkFacts], route: Route) -> int | None:
    return links[route.device].index if route.device is not None and route.device in links else None


def _slot(route: Route) -> tuple[object, ...]:
    """Two routes of one slot exclude each other."""
    return (route.prefix, route.table, route.metric)


def _route_order(route: Route) -> int:
    """What stops leaks first; then what is on link, so that gateways can be reached."""
    if route.kind != "unicast":
        return 0
    return 1 if route.gateway is None else 2


def main(arguments: tuple[str, ...]) -> int:
    """The exit status: 0 done, 1 refused, 2 wrong input."""
    try:
        match arguments:
            case ("apply" | "restore" as verb, path):
                for warning in {"apply": apply, "restore": restore}[verb](Path(path)):
                    sys.stderr.write(f"netstate: warning: {warning}\n")
            case ("remove", path):
                remove(Path(path))
            case _:
                raise WrongInput("netstate", "what to do?", "apply FILE, restore FILE, or remove FILE")
    except Fault as fault:
        sys.stderr.write(f"netstate: {fault}\n")
        return fault.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main(tuple(sys.argv[1:])))
