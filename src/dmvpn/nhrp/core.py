"""What every machine of the engine shares: settings, tables, the clock reading of this call, the actions so far."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_network
from random import Random
from typing import Final

from dmvpn.nhrp.cache import Binding, BindingKind, Bindings
from dmvpn.nhrp.candidates import Candidates
from dmvpn.nhrp.cie import Cie
from dmvpn.nhrp.cursor import Malformed
from dmvpn.nhrp.events import (
    Action,
    Address,
    Dropped,
    DropReason,
    Egress,
    Endpoint,
    EngineSettings,
    Happening,
    HubSetting,
    Log,
    Send,
)
from dmvpn.nhrp.extensions import CiscoAuthentication
from dmvpn.nhrp.ids import Requests
from dmvpn.nhrp.numbers import Kind
from dmvpn.nhrp.packet import Packet
from dmvpn.nhrp.rib import Rib
from dmvpn.nhrp.timers import Timers

# Special addresses (RFC 6890) that are no router's on another network; mapped ones would hide the IPv4 ones.
NOWHERE: Final = tuple(
    ip_network(network)
    for network in (
        "0.0.0.0/8",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "224.0.0.0/4",
        "240.0.0.0/4",  # 255.255.255.255 included
        "::/127",  # unspecified and loopback
        "::ffff:0:0/96",
        "fe80::/10",
        "ff00::/8",
    )
)


@dataclass(slots=True)
class Core:
    """One engine's common ground. `now` is set at each call from outside; `actions` is taken at its end."""

    settings: EngineSettings
    random: Random
    requests: Requests
    now: float
    timers: Timers = field(default_factory=Timers)
    rib: Rib = field(default_factory=Rib)
    bindings: Bindings = field(default_factory=Bindings)
    actions: list[Action] = field(default_factory=list)
    sent: Counter[Kind] = field(default_factory=Counter)
    received: Counter[Kind] = field(default_factory=Counter)
    dropped: Counter[DropReason] = field(default_factory=Counter)
    hubs_up: dict[Address, None] = field(default_factory=dict)  # NBMA addresses, in the order of the settings
    observed: dict[Address, Endpoint] = field(default_factory=dict)  # by hub: where it sees our IKE
    private: tuple[Endpoint, ...] = ()
    natted_as: Address | None = None  # our NBMA address as a foreign hub sees it
    own_entries: dict[tuple[int, bool], Cie] = field(default_factory=dict)  # by family, and whether of our underlay

    def emit(self, action: Action) -> None:
        self.actions.append(action)

    def send(self, packet: Packet, nbma: Address) -> None:
        """Sealed for this hop: the password is written anew, never passed on. RFC 2332 5.3.4."""
        if packet.kind is not Kind.ERROR_INDICATION:  # RFC 2332 5.2.7: no extensions
            packet = self._sealed(packet)
        try:
            octets = packet.encode()
        except Malformed as fault:  # what came in just fits, and what we add to it does not
            self.drop(fault.reason, nbma, f"{packet.kind.name} for {packet.destination_protocol}: {fault}")
            return
        self.sent[packet.kind] += 1
        self.emit(Send(octets, nbma))

    def _sealed(self, packet: Packet) -> Packet:
        if self.settings.authentication is None:
            has_none = packet.extension(CiscoAuthentication) is None
            return packet if has_none else packet.without_extension(CiscoAuthentication)
        return packet.with_extension(CiscoAuthentication(self.settings.authentication))

    def drop(self, reason: DropReason, sender: Address | None, detail: str) -> None:
        self.dropped[reason] += 1
        self.emit(Dropped(reason, sender, detail))

    def log(self, happening: Happening, subject: object, detail: str = "") -> None:
        self.emit(Log(happening, str(subject), detail))

    def after(self, seconds: float) -> float:
        """The deadline that lies so far ahead, up to a tenth earlier: routers started together must not march."""
        return self.now + seconds * self.random.uniform(0.9, 1.0)

    # ------------------------------------------------------------ who we are

    def own_address(self, like: Address) -> Address | None:
        """Our overlay address of that family."""
        for own in self.settings.protocol:
            if own.version == like.version:
                return own
        return None

    def is_own(self, address: Address) -> bool:
        return address in self.settings.protocol

    def in_overlay(self, address: Address) -> bool:
        return any(address in network for network in self.settings.overlay)

    def candidates(self) -> Candidates:
        """Ours, as they go into requests and replies."""
        return Candidates(tuple(dict.fromkeys(self.observed.values())), self.private)

    def worth_trying(self, candidates: Candidates | None) -> tuple[Endpoint, ...]:
        """Where IKE may find the peer. Its private addresses only if it seems to be behind the same NAT as we are:
        elsewhere they are some stranger's, or our own.
        """
        if candidates is None:
            return ()
        ours = {endpoint.address for endpoint in self.observed.values()}
        neighbours = not candidates.public or any(endpoint.address in ours for endpoint in candidates.public)
        tried = dict.fromkeys((*candidates.public, *(candidates.private if neighbours else ())))
        own = {*self.settings.protocol, self.settings.nbma, *(endpoint.address for endpoint in self.private)}
        return tuple(
            endpoint
            for endpoint in tried
            if endpoint.address not in own and not self.is_own_nbma(endpoint.address) and self._is_place(endpoint)
        )

    def _is_place(self, endpoint: Endpoint) -> bool:
        """Could a router be there? Not inside our own tunnels, for one."""
        if endpoint.port and not self._is_nowhere(endpoint.address):
            return True
        self.drop(DropReason.CANDIDATE, None, f"nobody can be at {endpoint.address} port {endpoint.port}")
        return False

    def _is_nowhere(self, address: Address) -> bool:
        return any(address in network for network in (*NOWHERE, *self.settings.overlay, *self.settings.transport))

    # ------------------------------------------------------------ ours and foreign

    def in_transport(self, nbma: Address | None) -> bool:
        return nbma is not None and any(nbma in network for network in self.settings.transport)

    def is_ours(self, nbma: Address) -> bool:
        """Does the router there speak as we do? Without a transport range (a cloud in clear) all but foreign hubs."""
        hub = self.hub_at(nbma)
        if hub is not None:
            return hub.ours
        return not self.settings.transport or self.in_transport(nbma)

    def can_reach(self, nbma: Address) -> bool:
        """Foreign routers want our underlay address, and have no userspace plane.

        Where they are is a packet's word: IKE is not to be sent just anywhere because of it.
        """
        if self.is_ours(nbma) or self.hub_at(nbma) is not None:
            return True
        return self.settings.underlay_nbma is not None and not self._is_nowhere(nbma)

    def own_nbma(self, towards: Address | None = None) -> Address:
        """What we call ourselves in packets to that NBMA address: a transport address is known to our own alone."""
        underlay = self.settings.underlay_nbma
        if towards is None or underlay is None or self.is_ours(towards):
            return self.settings.nbma
        return underlay

    def is_own_nbma(self, nbma: Address | None) -> bool:
        settings = self.settings
        if nbma is None:
            return False
        return nbma == settings.nbma or (settings.underlay_nbma is not None and nbma == settings.underlay_nbma)

    def underlay_through(self, hub: Address) -> Address | None:
        """Where foreign routers reach us, as this hub of ours vouches for it: where it sees our IKE come from."""
        seen = self.observed.get(hub)
        underlay = self.settings.underlay_nbma
        return underlay if seen is None or underlay is None else seen.address

    # ------------------------------------------------------------ the way to others

    def hub_at(self, nbma: Address | None) -> HubSetting | None:
        return next((hub for hub in self.settings.hubs if hub.nbma == nbma), None)

    def first_hub(self) -> Address | None:
        """The hub that takes what no route says: the first of the settings that is up."""
        return next((hub.nbma for hub in self.settings.hubs if hub.nbma in self.hubs_up), None)

    def next_hop(self, destination: Address) -> Address | None:
        """The NBMA address that NHRP packets for `destination` go to; None when there is none or it is here.

        Shortcuts and the bindings behind them are left out on purpose: a query through the hubs shows that the far
        end is still what it was.
        """
        return next(self.next_hops(destination), None)

    def next_hops(self, destination: Address) -> Iterator[Address]:
        """All that the kernel may choose from, the one for NHRP packets first."""
        if self.is_own(destination):
            return
        direct = self._routing_binding(destination)
        if direct is not None:
            yield direct.nbma
            return
        route = self.rib.lookup(destination)
        if route is not None and route.egress is Egress.OVERLAY:
            bindings = [found for one in route.gateways if (found := self._routing_binding(one)) is not None]
            yield from (binding.nbma for binding in bindings)
            if bindings:
                return
        elif not self.in_overlay(destination):
            return
        # Before routing has converged an overlay address may seem to lie behind the default route.
        hub = self.first_hub()
        if hub is not None:
            yield hub

    def _routing_binding(self, protocol: Address) -> Binding | None:
        binding = self.bindings.get(protocol)
        if binding is None or not binding.routes:
            return None
        # Through a hub that is down nothing gets: another hub may know the way.
        dead = binding.kind is BindingKind.HUB and binding.nbma not in self.hubs_up
        return None if dead else binding

    def registered(self) -> Iterator[Binding]:
        return (binding for binding in self.bindings if binding.kind is BindingKind.REGISTERED)
