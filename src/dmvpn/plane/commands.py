"""What dmvpnd may ask of the loop: allow, forget, flood, state. A request is a JSON object, and so is its reply."""

import json
import math
import time
from collections.abc import Callable
from ipaddress import AddressValueError, IPv4Address, NetmaskValueError, ip_network

from dmvpn.errors import WrongInput
from dmvpn.plane.counters import Peer
from dmvpn.plane.inbound import Inbound
from dmvpn.plane.permits import FLOOD_LIMIT, Prefix
from dmvpn.plane.tunnel import Tunnel
from dmvpn.plane.underlay import Underlay

Tree = dict[str, object]


class Commands:
    """The verbs. `generation` differs after every start, so that a client sees that the table it filled is gone."""

    def __init__(self, underlay: Underlay, tunnels: tuple[Tunnel, ...], inbound: Inbound) -> None:
        self._underlay = underlay
        self._tunnels = {tunnel.settings.device: tunnel for tunnel in tunnels}
        self._inbound = inbound
        self._generation = time.time_ns()
        self._verbs: dict[str, Callable[[Tree], Tree]] = {
            "allow": self._allow,
            "forget": self._forget,
            "flood": self._flood,
            "state": self._state,
            "hello": lambda _request: {},
        }

    def answer(self, line: bytes) -> bytes:
        """The reply to one line, without its newline. Never raises for what the line says."""
        try:
            reply = self._perform(line)
        except WrongInput as fault:
            reply = {"ok": False, "error": str(fault)}
        return json.dumps(reply, separators=(",", ":")).encode()

    def _perform(self, line: bytes) -> Tree:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise WrongInput("request", f"is not JSON: {error}") from error
        if not isinstance(request, dict):
            raise WrongInput("request", "is not an object")
        verb = self._verbs.get(str(request.get("op")))
        if verb is None:
            raise WrongInput("op", f"{request.get('op')!r} is none of {', '.join(self._verbs)}")
        return {"ok": True, "generation": self._generation, **verb(request)}

    def _allow(self, request: Tree) -> Tree:
        prefixes = tuple(_prefix(text) for text in _texts(request, "prefixes"))
        self._tunnel(request).allow(_address(request.get("nbma"), "nbma"), prefixes)
        return {}

    def _forget(self, request: Tree) -> Tree:
        self._tunnel(request).forget(_address(request.get("nbma"), "nbma"))
        return {}

    def _flood(self, request: Tree) -> Tree:
        nbmas = tuple(_address(text, "nbmas") for text in _texts(request, "nbmas"))
        if len(nbmas) > FLOOD_LIMIT:
            raise WrongInput("nbmas", f"{len(nbmas)} addresses, at most {FLOOD_LIMIT}")
        self._tunnel(request).flood_to(nbmas)
        return {}

    def _state(self, _request: Tree) -> Tree:
        now = time.monotonic()
        return {
            "socket": "bound" if self._underlay.socket is not None else "waiting",
            "drops": {reason.value: count for reason, count in self._inbound.drops.items()},
            "tunnels": {device: _tunnel_state(tunnel, now) for device, tunnel in self._tunnels.items()},
        }

    def _tunnel(self, request: Tree) -> Tunnel:
        name = request.get("tunnel")
        tunnel = self._tunnels.get(name) if isinstance(name, str) else None
        if tunnel is None:
            raise WrongInput("tunnel", f"{name!r} is none of {', '.join(self._tunnels)}")
        return tunnel


def _texts(request: Tree, key: str) -> list[str]:
    value = request.get(key)
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise WrongInput(key, "is not a list of texts")
    return value


def _address(value: object, key: str) -> IPv4Address:
    if isinstance(value, str):
        try:
            return IPv4Address(value)
        except AddressValueError:
            pass
    raise WrongInput(key, f"{value!r} is not an IPv4 address")


def _prefix(text: str) -> Prefix:
    try:
        return ip_network(text)
    except (AddressValueError, NetmaskValueError, ValueError) as error:
        raise WrongInput("prefixes", str(error)) from error


def _tunnel_state(tunnel: Tunnel, now: float) -> Tree:
    return {
        "device": "attached" if tunnel.tap is not None else "gone",
        "allowed": {
            str(IPv4Address(nbma)): [str(prefix) for prefix in prefixes]
            for nbma, prefixes in tunnel.permits.prefixes.items()
        },
        "flood": [str(IPv4Address(nbma)) for nbma in tunnel.flood],
        "peers": {str(IPv4Address(nbma)): _peer_state(peer, now) for nbma, peer in tunnel.counters.peers.items()},
        "drops": {reason.value: count for reason, count in tunnel.counters.drops.items()},
    }


def _peer_state(peer: Peer, now: float) -> Tree:
    data, nhrp = peer.data, peer.nhrp
    return {
        "tx_packets": data.tx_packets + nhrp.tx_packets,
        "tx_octets": data.tx_octets + nhrp.tx_octets,
        "rx_packets": data.rx_packets + nhrp.rx_packets,
        "rx_octets": data.rx_octets + nhrp.rx_octets,
        "tx_data_packets": data.tx_packets,
        "rx_data_packets": data.rx_packets,
        "tx_age_s": _age_s(data.tx_at, nhrp.tx_at, now),
        "rx_age_s": _age_s(data.rx_at, nhrp.rx_at, now),
    }


def _age_s(data_at: float | None, nhrp_at: float | None, now: float) -> float | None:
    times = [at for at in (data_at, nhrp_at) if at is not None]
    return math.floor((now - max(times)) * 1000) / 1000 if times else None
