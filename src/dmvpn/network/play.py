"""The network as a lab plays it: foreign routers that the lab has no image of are played by others. `lab.play`.

What only a foreign router has goes: its interfaces' names, that the file vouches for it; and what a cloud had for the
sake of its foreign members alone: the kernel plane, Cisco's password. All else is the file's.
"""

from collections.abc import Mapping
from typing import Any

from dmvpn.network.model import Network
from dmvpn.network.places import OURS, Place, members, places
from dmvpn.network.writing import text_of


def played_text(values: Mapping[str, Any], network: Network) -> str:
    """A whole file: the one whose `values` and model are given, with its players. Without `lab.play` the same."""
    play = network.lab.play
    changed = _copy(values)
    for place in places(network):
        if place.name in play:
            router = changed["sites"][place.site_name]["routers"][place.name]
            router["platform"] = play[place.name].value
            if play[place.name] in OURS:
                _made_ours(router, place)
    for name in network.clouds:
        if all(
            (play.get(member.place.name) or member.place.router.platform) in OURS for member in members(network, name)
        ):
            cloud = changed["clouds"][name]
            if any(not member.place.ours for member in members(network, name)):
                cloud.pop("plane", None)
                cloud.get("nhrp", {}).pop("secret", None)
    changed.get("lab", {}).pop("play", None)
    return text_of(changed)


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(below) for key, below in value.items()}
    return [_copy(below) for below in value] if isinstance(value, list) else value


def _made_ours(router: dict[str, Any], place: Place) -> None:
    """Ports instead of interfaces: the first ones that the site's networks leave free."""
    router.pop("claims", None)
    used = {net.port for net in place.site.networks.values() if net.port is not None}
    free = (port for number in range(64) if (port := f"eth{number}") not in used)
    for uplink in router["uplinks"].values():
        if uplink.pop("interface", None) is not None:
            uplink["port"] = next(free)
    for tunnel in router["tunnels"].values():
        tunnel.pop("interface", None)
    if any(net.port is None for net in place.site.networks.values()) and not place.router.ports:
        router.setdefault("lan-port", next(free))
