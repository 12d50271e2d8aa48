"""The view of one engine, taken from its tables."""

from dmvpn.nhrp.cache import Binding, BindingKind
from dmvpn.nhrp.candidates import Candidates
from dmvpn.nhrp.core import Core
from dmvpn.nhrp.events import Address
from dmvpn.nhrp.machines import Machines
from dmvpn.nhrp.registration_client import Hub
from dmvpn.nhrp.shortcut import Shortcut, ShortcutState
from dmvpn.nhrp.view import BindingRow, HubRow, ShortcutRow, View


def survey(core: Core, machines: Machines) -> View:
    shortcuts = list(machines.shortcuts.table)
    bindings = [_binding(core, machines, binding) for binding in core.bindings]
    local = [_local(core, own) for own in core.settings.protocol]
    negative = [_negative(core, s) for s in shortcuts if s.state is ShortcutState.NEGATIVE]
    return View(
        hubs=tuple(_hub(core, machines, hub) for hub in machines.client.hubs.values()),
        bindings=(*local, *bindings, *negative),
        shortcuts=tuple(_shortcut(core, machines, shortcut) for shortcut in shortcuts),
        sent=dict(core.sent),
        received=dict(core.received),
        dropped=dict(core.dropped),
    )


def _rtt_s(machines: Machines, nbma: Address | None) -> float | None:
    path = machines.paths.get(nbma) if nbma is not None else None
    return None if path is None else path.rtt_s


def _hub(core: Core, machines: Machines, hub: Hub) -> HubRow:
    setting = hub.setting
    return HubRow(
        name=setting.name,
        protocol=setting.protocol,
        nbma=setting.nbma,
        ours=setting.ours,
        state=hub.state,
        reason=hub.reason,
        age_s=core.now - hub.since,
        is_up=hub.is_up,
        observed=core.observed.get(setting.nbma),
        rtt_s=_rtt_s(machines, setting.nbma),
    )


def _binding(core: Core, machines: Machines, binding: Binding) -> BindingRow:
    candidates = binding.candidates or Candidates()
    return BindingRow(
        protocol=binding.protocol,
        nbma=binding.nbma,
        kind=binding.kind,
        state="up" if machines.security.is_up(binding.nbma) else "down",
        bound=binding.bound,
        age_s=core.now - binding.since,
        expires_s=None if binding.expires is None else binding.expires - core.now,
        claimed_nbma=binding.claimed_nbma,
        public=candidates.public,
        private=candidates.private,
        observed=machines.security.observed(binding.nbma),
    )


def _local(core: Core, own: Address) -> BindingRow:
    nbma = core.settings.nbma
    observed = next(iter(core.observed.values()), None)
    return BindingRow(
        protocol=own,
        nbma=nbma,
        kind=BindingKind.LOCAL,
        state="up",
        bound=False,
        age_s=None,
        expires_s=None,
        claimed_nbma=nbma,
        public=(),
        private=core.private,
        observed=observed,
    )


def _negative(core: Core, shortcut: Shortcut) -> BindingRow:
    return BindingRow(
        protocol=shortcut.destination,
        nbma=None,
        kind=BindingKind.NEGATIVE,
        state=shortcut.why,
        bound=False,
        age_s=core.now - shortcut.since,
        expires_s=None if shortcut.expires is None else shortcut.expires - core.now,
        claimed_nbma=None,
        public=(),
        private=(),
        observed=None,
    )


def _shortcut(core: Core, machines: Machines, shortcut: Shortcut) -> ShortcutRow:
    path = machines.paths.get(shortcut.nbma) if shortcut.nbma is not None else None
    told = shortcut.whereabouts or Candidates()
    return ShortcutRow(
        prefix=shortcut.prefix,
        destination=shortcut.destination,
        gateway=shortcut.gateway,
        nbma=shortcut.nbma,
        state=shortcut.state,
        why=shortcut.why,
        age_s=core.now - shortcut.since,
        expires_s=None if shortcut.expires is None else shortcut.expires - core.now,
        rtt_s=None if path is None else path.rtt_s,
        public=told.public,
        private=told.private,
        candidates=shortcut.candidates,
        seen_as=None if path is None else path.seen_as,
    )
