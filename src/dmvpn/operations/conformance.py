"""A conformance run against a peer of this machine: from facts of the network or the device to findings."""

import select
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from pathlib import Path
from random import SystemRandom
from typing import Final

from dmvpn.errors import Fault, WrongInput
from dmvpn.linux import files
from dmvpn.linux.gre_socket import GreSocket
from dmvpn.linux.neighbours import LinkForm
from dmvpn.linux.nhrp_socket import NhrpSocket
from dmvpn.linux.overlay_device import gre_key_of, nbma_of_neighbour, overlay_device
from dmvpn.network.plan import Cloud, Plan
from dmvpn.nhrp.conformance.bench import Ask, Bench, Finding, Heard, Verdict, Wait
from dmvpn.nhrp.conformance.cases import leave, run
from dmvpn.operations import here, reading

__all__ = ["Asked", "Finding", "Station", "Verdict", "findings", "is_failure", "masked", "station"]

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
ANSWER_WAITS_S: Final = (1.0, 2.0, 4.0)  # after each sending: a router may have to authorise first
SILENCE_S: Final = 1.5
LINGER_S: Final = 0.1  # behind the first answer, for a second one
SECRET_LIMIT_OCTETS: Final = 4096
IDS: Final = 1 << 32
HOLDING_TIME_S: Final = 600
MASK: Final = b"*"


@dataclass(frozen=True, slots=True)
class Asked:
    """What the operator said; None where the machine is to be asked."""

    peer: Address
    network: str | None = None
    cloud: str | None = None
    device: str | None = None
    peer_nbma: Address | None = None
    own_nbma: Address | None = None
    second_nbma: Address | None = None
    registers: Address | None = None
    unknown: Address | None = None
    beyond: Address | None = None
    authentication: Path | None = None


@dataclass(frozen=True, slots=True)
class Station:
    """Who runs the cases. `live`: the address that they register is in use, and is registered again at the end."""

    device: str
    form: LinkForm
    bench: Bench = field(repr=False)
    live: bool


@dataclass(frozen=True, slots=True)
class _Own:
    """This machine in the cloud: of a network's file, or of a device alone."""

    device: str
    addresses: tuple[Address, ...]
    overlay: tuple[Network, ...]
    taken: frozenset[Address]
    nbma: Address | None
    password: bytes | None
    hubs: dict[Address, Address]
    holding_time_s: int


def station(asked: Asked) -> Station:
    """Raises Fault or WrongInput for what neither the operator nor the machine says."""
    own = _own(asked)
    device = overlay_device(own.device)
    like = asked.peer.version
    first = next((address for address in own.addresses if address.version == like), None)
    registers = asked.registers or first
    if registers is None:
        raise WrongInput(own.device, f"has no IPv{like} address", "name the address to register with --as")
    nbma = asked.own_nbma or own.nbma or device.nbma
    if nbma is None:
        raise WrongInput(own.device, "does not say which address it sends from", "give it with --own-nbma")
    peer_nbma = asked.peer_nbma or nbma_of_neighbour(own.device, asked.peer) or own.hubs.get(asked.peer)
    if peer_nbma is None:
        raise WrongInput(str(asked.peer), f"is no neighbour on {own.device}", "give its NBMA address with --nbma")
    password = own.password
    if asked.authentication is not None:
        password = files.read_private(asked.authentication, limit_octets=SECRET_LIMIT_OCTETS).rstrip(b"\r\n")
    bench = Bench(
        registers=registers,
        nbma=nbma,
        peer=asked.peer,
        peer_nbma=peer_nbma,
        unknown=asked.unknown or _unknown(own, asked.peer),
        ids=_ids(),
        holding_time_s=own.holding_time_s,
        password=password,
        beyond=asked.beyond,
        second_nbma=asked.second_nbma,
    )
    return Station(own.device, device.form, bench, live=registers in own.addresses)


def _ids() -> Iterator[int]:
    """Of our own, so that dmvpnd on the same device takes the answers for nobody's."""
    identifier = SystemRandom().randrange(IDS)
    while True:
        yield identifier
        identifier = (identifier + 1) % IDS


def _own(asked: Asked) -> _Own:
    for network in [asked.network] if asked.network is not None else here.networks():
        plan, everybody = _plans(here.find(network))
        for cloud in plan.clouds:
            if _is_meant(cloud, asked):
                return _own_of_cloud(plan, cloud, everybody)
    if asked.device is None:
        raise WrongInput(asked.cloud or str(asked.peer), "no cloud of this machine", "name the tunnel's --device")
    device = overlay_device(asked.device)
    return _Own(
        device=asked.device,
        addresses=tuple(address.ip for address in device.addresses),
        overlay=tuple(address.network for address in device.addresses if address.network.num_addresses > 1),
        taken=frozenset(address.ip for address in device.addresses),
        nbma=device.nbma,
        password=None,
        hubs={},
        holding_time_s=HOLDING_TIME_S,
    )


def _plans(place: here.Here) -> tuple[Plan, dict[str, Plan]]:
    loaded = reading.in_force(place)
    router = place.router()
    if router is None:
        raise Fault(str(place.router_file), "missing", "run `dmvpn apply` on this router")
    return reading.plan_of(loaded, router), reading.plans_without_secrets(loaded)


def _is_meant(cloud: Cloud, asked: Asked) -> bool:
    if asked.device is not None:
        return cloud.device == asked.device
    if asked.cloud is not None:
        return cloud.name == asked.cloud
    return any(asked.peer in network for network in cloud.overlay)


def _own_of_cloud(plan: Plan, cloud: Cloud, everybody: dict[str, Plan]) -> _Own:
    taken = [address for other in everybody.values() for one in other.clouds for address in one.addresses]
    taken += [address for hub in cloud.hubs for address in hub.overlay]
    return _Own(
        device=cloud.device,
        addresses=cloud.addresses,
        overlay=cloud.overlay,
        taken=frozenset((*taken, *cloud.addresses)),
        nbma=plan.transport if cloud.encrypted else cloud.underlay_address,
        password=cloud.nhrp.authentication,
        hubs={address: hub.nbma for hub in cloud.hubs for address in hub.overlay},
        holding_time_s=cloud.nhrp.holding_time_s,
    )


def _unknown(own: _Own, peer: Address) -> Address:
    """The last host of the peer's network that is nobody's."""
    around = next((network for network in own.overlay if peer in network), None)
    if around is None:
        around = ip_network((peer, peer.max_prefixlen - 8), strict=False)
    last = int(around.broadcast_address) - 1
    for number in range(last, int(around.network_address), -1):
        address = type(peer)(number)
        if address not in own.taken and address != peer:
            return address
    raise WrongInput(str(around), "has no free address", "name one that nobody has with --unknown")


# ---------------------------------------------------------------- the run


def findings(of: Station) -> Iterator[Finding]:
    """Each case as it ends. What was registered is taken back, or registered again, however the run ends."""
    exchange = _Exchange(of)
    try:
        yield from run(of.bench, exchange)
    finally:
        try:
            for last in leave(of.bench, registered=of.live):
                exchange(last)
        finally:
            exchange.close()


def is_failure(finding: Finding) -> bool:
    return finding.judgement.verdict in (Verdict.FAIL, Verdict.NOT_ANSWERED)


def masked(octets: bytes, password: bytes | None) -> bytes:
    """Without the password, which is in clear in them."""
    return octets.replace(password, MASK * len(password)) if password else octets


class _Exchange:
    """Sends what a case asks and hears what the peer says about it; dmvpnd on the same device hears it too."""

    def __init__(self, of: Station) -> None:
        self._bench = of.bench
        self._socket = NhrpSocket(of.device, of.form)
        self._second: GreSocket | None = None
        second = of.bench.second_nbma
        if isinstance(second, IPv4Address):
            self._second = GreSocket(second, gre_key_of(of.device))

    def close(self) -> None:
        self._socket.close()
        if self._second is not None:
            self._second.close()

    def __call__(self, ask: Ask) -> tuple[Heard, ...]:
        self._received()  # what is late belongs to another case
        for wait_s in ANSWER_WAITS_S if ask.wait is Wait.ANSWER else (SILENCE_S,):
            self._send(ask)
            heard = self._listen(ask, wait_s)
            if heard:
                return heard
        return ()

    def _send(self, ask: Ask) -> None:
        to = self._bench.peer_nbma
        if self._second is not None and ask.nbma == self._bench.second_nbma and isinstance(to, IPv4Address):
            self._second.send(ask.octets, to)
        else:
            self._socket.send(ask.octets, to)

    def _listen(self, ask: Ask, wait_s: float) -> tuple[Heard, ...]:
        end = time.monotonic() + wait_s
        heard: list[Heard] = []
        sockets = [one for one in (self._socket, self._second) if one is not None]
        while (left := end - time.monotonic()) > 0:
            select.select(sockets, [], [], left)
            fresh = [Heard.of(octets) for octets in self._received() if ask.is_answered_by(octets)]
            if fresh and not heard and ask.wait is Wait.ANSWER:
                end = min(end, time.monotonic() + LINGER_S)
            heard += fresh
        return tuple(heard)

    def _received(self) -> list[bytes]:
        found = []
        while datagrams := self._socket.receive():
            found += [datagram.octets for datagram in datagrams]
        while self._second is not None and (octets := self._second.receive()) is not None:
            found.append(octets)
        return found
