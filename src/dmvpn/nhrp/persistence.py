"""Between a running engine and its snapshot."""

from dmvpn.nhrp.cache import Binding, BindingKind
from dmvpn.nhrp.core import Core
from dmvpn.nhrp.machines import Machines
from dmvpn.nhrp.shortcut import Shortcut, ShortcutState
from dmvpn.nhrp.snapshot import SavedBinding, SavedHub, SavedShortcut, Snapshot


def take_snapshot(core: Core, machines: Machines) -> Snapshot:
    return Snapshot(
        request_id=core.requests.next_id,
        bindings=tuple(
            SavedBinding(binding.protocol, binding.nbma, binding.claimed_nbma, binding.unique, expires - core.now)
            for binding in core.registered()
            if (expires := binding.expires) is not None
        ),
        shortcuts=tuple(
            saved for shortcut in machines.shortcuts.table if (saved := _saved(shortcut, core.now)) is not None
        ),
        hubs=tuple(SavedHub(nbma, core.observed.get(nbma)) for nbma in core.hubs_up),
    )


def _saved(shortcut: Shortcut, now: float) -> SavedShortcut | None:
    if shortcut.state is not ShortcutState.UP or shortcut.gateway is None or shortcut.nbma is None:
        return None
    return SavedShortcut(
        destination=shortcut.destination,
        prefix=shortcut.prefix,
        gateway=shortcut.gateway,
        nbma=shortcut.nbma,
        ours=shortcut.ours,
        next_hop_only=shortcut.next_hop_only,
        holding_time_s=shortcut.holding_time_s,
        remaining_s=(shortcut.expires or now) - now,
        mtu_octets=shortcut.mtu_octets,
    )


def restore(core: Core, machines: Machines, snapshot: Snapshot) -> None:
    """Hubs first: shortcuts and bindings that share an address with one leave its neighbour entry alone."""
    for hub in snapshot.hubs:
        machines.client.adopt(hub.nbma, hub.observed)
    for saved in snapshot.bindings:
        if saved.remaining_s > 0 and core.bindings.has_room(saved.protocol, saved.nbma):
            kind = BindingKind.REGISTERED
            binding = Binding(saved.protocol, saved.nbma, kind, core.now, None, saved.claimed_nbma, saved.unique)
            machines.server.adopt(binding, saved.remaining_s)
    machines.server.confirm_later()
    for shortcut in snapshot.shortcuts:
        if shortcut.remaining_s > 0 and not machines.shortcuts.table.is_full:
            machines.shortcuts.adopt(_restored(core, machines, shortcut), shortcut.remaining_s)


def _restored(core: Core, machines: Machines, saved: SavedShortcut) -> Shortcut:
    number = machines.shortcuts.table.next_number()
    shortcut = Shortcut(
        number, saved.destination, saved.prefix, saved.next_hop_only, core.now, core.now + saved.remaining_s
    )
    shortcut.offered = saved.prefix
    shortcut.gateway = saved.gateway
    shortcut.nbma = saved.nbma
    shortcut.ours = saved.ours
    shortcut.holding_time_s = saved.holding_time_s
    shortcut.mtu_octets = saved.mtu_octets
    return shortcut
