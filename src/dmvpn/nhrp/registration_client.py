"""The client's side of registration, with each hub on its own. RFC 2332 5.2.3; nhrp.md's figures are Cisco's.

linking (wants an SA) -> registering -> up -> (registration_s) registering. A refused or unanswered registration is
tried again with back-off for ever; a hub that answers neither registrations nor probes gets its SA restarted.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Final

from dmvpn.nhrp.cache import Binding, BindingKind
from dmvpn.nhrp.core import Core
from dmvpn.nhrp.events import (
    Address,
    BindNeighbour,
    DropReason,
    Endpoint,
    Happening,
    HubSetting,
    UnbindNeighbour,
)
from dmvpn.nhrp.extensions import CiscoNat
from dmvpn.nhrp.ids import Request
from dmvpn.nhrp.liveness import Paths
from dmvpn.nhrp.messages import registration_request
from dmvpn.nhrp.numbers import CieCode, ErrorCode, Kind
from dmvpn.nhrp.packet import Packet
from dmvpn.nhrp.purges import Purges
from dmvpn.nhrp.rib import host_of
from dmvpn.nhrp.security import Security
from dmvpn.nhrp.text import code_name

RETRY_FIRST_S: Final = 1.0
RETRY_MOST_S: Final = 64.0
SILENT_LIMIT: Final = 4  # requests unanswered in a row (1 + 2 + 4 + 8 s): the hub is down
SENDINGS_LIMIT: Final = 7  # up to a wait of 64 s
SILENT: Final = "registrations are not answered"
AFTER_PURGE_S: Final = 2.0
REFUSED_LEAST_S: Final = 30.0
REFUSED_MOST_S: Final = 90.0
HUB_PROBE_FACTOR: Final = 5  # of probe_interval_s: a dead hub is found within 20 s
USER: Final = "hub"


class HubState(StrEnum):
    LINKING = "linking"
    REGISTERING = "registering"
    UP = "up"
    REFUSED = "refused"


@dataclass(slots=True)
class _Registration:
    """One address of ours with one hub. `request_id` stays over retransmissions."""

    own: Address
    server: Address
    request_id: int | None = None
    sendings: int = 0


@dataclass(slots=True)
class Hub:
    setting: HubSetting
    since: float
    state: HubState = HubState.LINKING
    reason: str = ""
    is_up: bool = False
    registrations: list[_Registration] = field(default_factory=list)
    expires: float | None = None


class RegistrationClient:
    def __init__(self, core: Core, security: Security, paths: Paths, purges: Purges) -> None:
        self._core = core
        self._security = security
        self._paths = paths
        self._purges = purges
        self.hubs = {setting.nbma: self._hub(setting) for setting in core.settings.hubs}

    def _hub(self, setting: HubSetting) -> Hub:
        hub = Hub(setting, self._core.now)
        for server in setting.protocol:
            own = self._core.own_address(server)
            if own is not None:
                hub.registrations.append(_Registration(own, server))
        return hub

    # ------------------------------------------------------------ link

    def start(self) -> None:
        for hub in self.hubs.values():
            for server in hub.setting.protocol:
                nbma = hub.setting.nbma
                self._core.bindings.put(Binding(server, nbma, BindingKind.HUB, self._core.now, None, nbma))
            if hub.is_up:
                self._confirm(hub)
            else:
                self._security.want(hub.setting.nbma, (), USER)

    def _confirm(self, hub: Hub) -> None:
        """Adopted: its SA and path are taken to stand until probes say otherwise."""
        self._bind(hub)
        self._security.adopt(hub.setting.nbma, USER)
        if self._is_probed(hub):
            self._paths.adopt(hub.setting.nbma, hub.registrations[0].server, USER, self._interval_s)

    def adopt(self, nbma: Address, observed: Endpoint | None) -> None:
        """Up before a restart. It is registered with again as soon as its SA is reported."""
        hub = self.hubs.get(nbma)
        if hub is None:
            return
        hub.is_up = True
        self._up_with(hub)
        if observed is not None:
            self._core.observed[nbma] = observed

    def security_up(self, nbma: Address) -> None:
        hub = self.hubs.get(nbma)
        if hub is None or hub.state is not HubState.LINKING:
            return
        self._bind(hub)
        self._register(hub)

    def renew(self) -> None:
        """What we said of ourselves has changed: hubs that know us are told before their time."""
        for hub in self.hubs.values():
            if hub.state is HubState.UP:
                self._register(hub)

    def security_down(self, nbma: Address, reason: str) -> None:
        hub = self.hubs.get(nbma)
        if hub is None:
            return
        self._turn(hub, HubState.LINKING, reason)
        self._core.timers.disarm(("register", nbma))
        for registration in hub.registrations:
            self._close(registration)
        self._down(hub, reason)
        for binding in self._of(hub):
            if binding.bound:
                binding.bound = False
                self._core.emit(UnbindNeighbour(binding.protocol))

    def path_dead(self, nbma: Address) -> None:
        """Its probes are not answered; the SA is being restarted."""
        self.security_down(nbma, "not answering")

    def path_answer(self, nbma: Address, code: int) -> None:
        """A hub that has forgotten us says so when probed."""
        hub = self.hubs.get(nbma)
        if hub is not None and hub.state is HubState.UP and code == CieCode.NO_BINDING:
            self._register(hub)

    def _bind(self, hub: Hub) -> None:
        for binding in self._of(hub):
            if not binding.bound:
                binding.bound = True
                self._core.emit(BindNeighbour(binding.protocol, binding.nbma))

    def _probe(self, hub: Hub) -> None:
        """Foreign hubs are not probed: what they answer to that is not known."""
        if self._is_probed(hub):
            self._paths.watch(hub.setting.nbma, hub.registrations[0].server, USER, self._interval_s)

    @property
    def _interval_s(self) -> float:
        return self._core.settings.probe_interval_s * HUB_PROBE_FACTOR

    def _is_probed(self, hub: Hub) -> bool:
        return hub.setting.ours and bool(hub.registrations)

    def _of(self, hub: Hub) -> list[Binding]:
        of_nbma = self._core.bindings.of_nbma(hub.setting.nbma)
        return [binding for binding in of_nbma if binding.kind is BindingKind.HUB]

    # ------------------------------------------------------------ requests

    def _register(self, hub: Hub) -> None:
        self._turn(hub, HubState.REGISTERING, "")
        self._probe(hub)
        for registration in hub.registrations:
            self._close(registration)
            registration.request_id = self._core.requests.take_id()
            registration.sendings = 0
        self._send(hub)

    def _send(self, hub: Hub) -> None:
        """What is still unanswered, under the same ids."""
        waiting = [registration for registration in hub.registrations if registration.request_id is not None]
        sendings = max((registration.sendings for registration in waiting), default=0)
        for registration in waiting:
            self._send_one(hub, registration)
        nbma = hub.setting.nbma
        wait = min(RETRY_FIRST_S * 2.0**sendings, RETRY_MOST_S)
        self._core.timers.arm(("register", nbma), self._core.after(wait), partial(self._unanswered, hub))

    def _send_one(self, hub: Hub, registration: _Registration) -> None:
        request_id, nbma = registration.request_id, hub.setting.nbma
        assert request_id is not None
        registration.sendings += 1
        self._core.requests.open(
            Request(
                request_id=request_id,
                kind=Kind.REGISTRATION_REQUEST,
                source_nbma=self._core.own_nbma(hub.setting.nbma),
                source_protocol=registration.own,
                asked=nbma,
                on_reply=partial(self._replied, hub, registration),
                on_error=lambda code, sender: self._refused(hub, f"error {code} ({code_name(ErrorCode, code)})"),
            )
        )
        packet = registration_request(self._core, registration.own, hub.setting, registration.server, request_id)
        self._core.send(packet, nbma)

    def _unanswered(self, hub: Hub) -> None:
        """Its id stays while it is sent again; the SA is ended and initiated when the longest wait was in vain."""
        sendings = max(registration.sendings for registration in hub.registrations)
        nbma = hub.setting.nbma
        if sendings >= SENDINGS_LIMIT:
            self.security_down(nbma, SILENT)
            self._paths.security_down(nbma)
            self._security.restart(nbma)
            return
        if sendings >= SILENT_LIMIT:
            self._down(hub, SILENT)
        self._send(hub)

    def _close(self, registration: _Registration) -> None:
        self._core.requests.close(registration.request_id)
        registration.request_id = None

    # ------------------------------------------------------------ replies

    def _replied(self, hub: Hub, registration: _Registration, reply: Packet, sender: Address) -> None:
        if sender != hub.setting.nbma:
            self._core.drop(DropReason.UNSOLICITED, sender, f"answers what {hub.setting.nbma} was asked")
            return
        self._close(registration)
        code = reply.cies[0].code if reply.cies else CieCode.OK
        if code == CieCode.ALREADY_REGISTERED:
            self._take_back(hub, registration)
        elif code != CieCode.OK:
            self._refused(hub, f"code {code} ({code_name(CieCode, code)})")
        else:
            self._accepted(hub, registration, reply)

    def _accepted(self, hub: Hub, registration: _Registration, reply: Packet) -> None:
        self._read_whereabouts(hub, registration, reply)
        if any(other.request_id is not None for other in hub.registrations):
            return
        self._turn(hub, HubState.UP, "")
        hub.expires = self._core.now + self._core.settings.holding_time_s
        if not hub.is_up:
            hub.is_up = True
            self._up_with(hub)
            self._core.log(Happening.HUB_UP, hub.setting.name)
        self._again(hub, self._core.after(self._core.settings.registration_s))

    def _read_whereabouts(self, hub: Hub, registration: _Registration, reply: Packet) -> None:
        candidates = reply.candidates()
        if candidates is not None and candidates.observed is not None:
            self._core.observed[hub.setting.nbma] = candidates.observed
        nat = reply.extension(CiscoNat)
        if hub.setting.ours or nat is None:
            return
        real = next((cie.nbma for cie in nat.cies[1:] if cie.protocol == registration.own), None)
        self._core.natted_as = real

    def _take_back(self, hub: Hub, registration: _Registration) -> None:
        """Code 14: the address is still bound to where we were. RFC 2332 5.2.4."""
        purged = host_of(registration.own)
        self._purges.take_back_from(registration.server, hub.setting.nbma, purged, silent=True)
        self._again(hub, self._core.now + AFTER_PURGE_S)

    def _refused(self, hub: Hub, reason: str) -> None:
        self._turn(hub, HubState.REFUSED, reason)
        for registration in hub.registrations:
            self._close(registration)
        self._down(hub, f"refused: {reason}")
        # It does not answer the probes of whom it refuses; that is no reason to end the SA.
        self._paths.unwatch(hub.setting.nbma, USER)
        self._again(hub, self._core.now + self._core.random.uniform(REFUSED_LEAST_S, REFUSED_MOST_S))

    # ------------------------------------------------------------ state

    def _again(self, hub: Hub, at: float) -> None:
        self._core.timers.arm(("register", hub.setting.nbma), at, partial(self._register, hub))

    def _up_with(self, hub: Hub) -> None:
        """In the order of the settings, which is that of preference."""
        up = {nbma for nbma, other in self.hubs.items() if other.is_up}
        self._core.hubs_up = {nbma: None for nbma in self.hubs if nbma in up or nbma == hub.setting.nbma}

    def _down(self, hub: Hub, reason: str) -> None:
        if hub.is_up:
            hub.is_up = False
            self._core.hubs_up.pop(hub.setting.nbma, None)
            self._core.log(Happening.HUB_DOWN, hub.setting.name, reason)

    def _turn(self, hub: Hub, state: HubState, reason: str) -> None:
        # A hub that is up is asked again three times in a holding time; it has been up since it came up.
        asked_again = hub.is_up and state in (HubState.REGISTERING, HubState.UP)
        if (hub.state, hub.reason) != (state, reason) and not asked_again:
            hub.since = self._core.now
        hub.state = state
        hub.reason = reason
