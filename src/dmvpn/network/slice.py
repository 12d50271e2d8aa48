"""What one router must know: its own site, the network's head, the hubs, and whom only the file vouches for.

The slice is a network file itself; the Plan that follows from it is the one that follows from the whole file. Whoever
takes a router apart finds in it no networks and no secrets of other sites.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dmvpn.errors import WrongInput
from dmvpn.network.awall import policy_files
from dmvpn.network.compile import secret_files
from dmvpn.network.model import Network
from dmvpn.network.places import Place, hubs, places
from dmvpn.network.plan import Role
from dmvpn.network.transport import transport_address
from dmvpn.network.vouched import vouched_members
from dmvpn.network.writing import text_of

Values = Mapping[str, Any]

_HEAD = ("version", "network", "domain", "prefixes", "transport", "ports")
_ROUTER = ("platform", "plane", "claims")
_UPLINK = ("port", "vlan", "interface", "address", "gateway", "dhcp", "autoconf", "public", "mtu")
_TUNNEL = ("role", "address", "over", "interface")
_NETWORK = ("prefix", "port", "vlan", "zone")
NOTHING: Values = {"prefixes": []}  # a zone that is elsewhere


def slice_text(values: Values, network: Network, router: str) -> str:
    """The slice as the text of a file. `values` are those of the whole file as `source.read` gives them.

    Raises WrongInput for a router that the file does not have.
    """
    remark = f"{router}'s part of {network.network}: its own site, the hubs, and what all routers share.\n"
    remark += "Made from the whole file, which has the other sites too: change that one."
    head, *rest = text_of(slice_of(values, network, router)).splitlines()
    return "\n".join((*(f"# {line}" for line in remark.splitlines()), head, *rest)) + "\n"


def slice_of(values: Values, network: Network, router: str) -> dict[str, Any]:
    """The slice as plain values."""
    return _Slice(values, network, _place(network, router)).whole()


def slice_secrets(network: Network, router: str) -> tuple[str, ...]:
    """The files that this router needs, relative to the network file: its clouds' and ISPs' secrets, awall's."""
    _place(network, router)
    return tuple(dict.fromkeys((*secret_files(network, router), *policy_files(network))))


def _place(network: Network, router: str) -> Place:
    found = next((place for place in places(network) if place.name == router), None)
    if found is None:
        raise WrongInput(network.network, f"no router is called {router}")
    return found


def _picked(values: Values, keys: tuple[str, ...]) -> dict[str, Any]:
    """In the file's order, not in that of `keys`: the reader knows his file."""
    return {key: value for key, value in values.items() if key in keys}


@dataclass(frozen=True, slots=True)
class _Slice:
    values: Values
    network: Network
    own: Place

    def whole(self) -> dict[str, Any]:
        kept = self.clouds()
        picked: dict[str, Any] = {}
        for key, value in self.values.items():
            if key in _HEAD or key == "system":
                picked[key] = value
            elif key == "crypto":
                profiles = {self.network.clouds[name].crypto for name in kept}
                picked[key] = {name: profile for name, profile in value.items() if name in profiles}
            elif key == "clouds":
                picked[key] = {name: cloud for name, cloud in value.items() if name in kept}
            elif key == "sites":
                picked[key] = dict(self.sites(kept))
        return self.with_zones(picked)

    def clouds(self) -> frozenset[str]:
        """Those of its site, and what their hubs announce into them; a hub refuses the overlays of all."""
        tunnels = self.own.router.tunnels.values()
        if any(tunnel.role is Role.HUB for tunnel in tunnels):
            return frozenset(self.network.clouds)
        kept: set[str] = set()
        todo = [cloud for router in self.own.site.routers.values() for cloud in router.tunnels]
        while todo:
            name = todo.pop()
            if name not in kept:
                kept.add(name)
                todo += self.network.clouds[name].redistribute
        return frozenset(kept)

    def sites(self, kept: frozenset[str]) -> Iterator[tuple[str, Any]]:
        shown, vouched = self.others(kept)
        for name, site in self.values["sites"].items():
            whole = name == self.own.site_name
            here = [place for place in places(self.network) if place.site_name == name]
            here = here if whole else [place for place in here if place.name in shown]
            # Whom no certificate vouches for is held to what the file says its site may announce.
            named = whole or any(place.name in vouched for place in here)
            routers = {place.name: self.router(place, site["routers"][place.name], kept, named=named) for place in here}
            if not routers:
                continue
            if whole:
                yield name, {**site, "routers": routers}
                continue
            picked = _picked(site, ("asn",))
            if named:
                picked["networks"] = {net: _picked(given, _NETWORK) for net, given in site["networks"].items()}
            yield name, {**picked, "routers": routers}

    def others(self, kept: frozenset[str]) -> tuple[frozenset[str], frozenset[str]]:
        """Routers of other sites that are shown, and those among them whose networks are shown."""
        shown = {hub.place.name for name in kept for hub in hubs(self.network, name)}
        vouched = {
            member.place.name for name in self.own.router.tunnels for member in vouched_members(self.network, name)
        }
        return frozenset(shown | vouched), frozenset(vouched)

    def router(self, place: Place, given: Values, kept: frozenset[str], *, named: bool) -> dict[str, Any]:
        """A router as another one must know it; `named`: the networks of its site are shown too."""
        if place.name == self.own.name:
            return dict(given)
        picked = _picked(given, (*_ROUTER, *(("ports", "lan-port", "addresses") if named else ())))
        tunnels = {name: tunnel for name, tunnel in given["tunnels"].items() if name in kept}
        if place.ours:
            # Derived from its first tunnel, which may be in a cloud that is not shown.
            picked["transport"] = str(transport_address(self.network, place))
        used = {uplink for name in tunnels for uplink in place.router.tunnels[name].over} or set(given["uplinks"])
        if any(not place.router.tunnels[name].over for name in tunnels):
            used = set(given["uplinks"])
        picked["uplinks"] = {name: _uplink(uplink) for name, uplink in given["uplinks"].items() if name in used}
        picked["tunnels"] = {name: _picked(tunnel, _TUNNEL) for name, tunnel in tunnels.items()}
        return picked

    def with_zones(self, picked: dict[str, Any]) -> dict[str, Any]:
        """Policy and people on the road, where they concern this router; zones of other sites are named, and empty."""
        made = {
            net.get("zone", "lan") for site in picked["sites"].values() for net in site.get("networks", {}).values()
        }
        policy = self.values.get("policy")
        if policy is not None:
            everywhere = {net.zone for site in self.network.sites.values() for net in site.networks.values()}
            zones = {name: _known_members(zone, picked) for name, zone in dict(policy.get("zones", {})).items()}
            lacking = sorted(everywhere - made - set(zones))
            made |= everywhere | set(zones)
            zones |= dict.fromkeys(lacking, NOTHING)
            kept = {key: value for key, value in policy.items() if key not in ("zones", "tests")}
            picked["policy"] = {"zones": zones, **kept} if zones else kept
        warriors = self.values.get("road-warriors")
        serving = self.network.road_warriors
        if warriors is not None and serving is not None and self.own.name in serving.serve:
            picked["road-warriors"] = _without(dict(warriors) | {"serve": [self.own.name]}, made)
        site = picked["sites"][self.own.site_name]
        picked["sites"][self.own.site_name] = _without(site, made)
        return picked


def _known_members(zone: Values, picked: Values) -> Values:
    """A zone of the policy without what only other sites have. Of what is left of it, nothing may be left here."""
    routers = [router for site in picked["sites"].values() for router in site["routers"].values()]
    known: dict[str, set[str]] = {
        "networks": {name for site in picked["sites"].values() for name in site.get("networks", {})},
        "clouds": set(picked["clouds"]),
        "uplinks": {name for router in routers for name in router["uplinks"]},
    }
    kept = dict(zone)
    for word, names in known.items():
        if word in kept:
            given = kept[word] if isinstance(kept[word], list) else [kept[word]]
            kept[word] = [name for name in given if name in names]
    members = [kept[word] for word in known if word in kept]
    if members and not any(members):
        return NOTHING
    return {key: value for key, value in kept.items() if value != []} if members else zone


def _uplink(given: Values) -> dict[str, Any]:
    """Where a router is reached; how it gets there is its own affair, and its password is its own."""
    picked = _picked(given, _UPLINK)
    return {**picked, "dhcp": True} if "pppoe" in given else picked


def _without(section: Any, made: set[str]) -> Any:
    """Lists of zones without those that only another site has: they mean nothing here."""
    if isinstance(section, dict):
        return {key: _known(value, made) if key == "zones" else _without(value, made) for key, value in section.items()}
    return [_without(item, made) for item in section] if isinstance(section, list) else section


def _known(zones: Any, made: set[str]) -> Any:
    if isinstance(zones, list):
        return [zone for zone in zones if zone in made or zone == "_fw"]
    return zones if zones in made or zones == "_fw" else []
