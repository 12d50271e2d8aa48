"""What dmvpnd is told: the rendered daemon.json. The daemon never sees the network file.

`python -m dmvpn.daemon.settings check FILE` says whether dmvpnd would take it.
"""

import json
import sys
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from pathlib import Path
from typing import Any

from dmvpn.errors import WrongInput
from dmvpn.linux import verbs
from dmvpn.uplink.rounds import Rule, Target
from dmvpn.uplink.watch import Band, WatchSettings

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Interface = IPv4Interface | IPv6Interface

FORMAT = 1
SIZE_LIMIT_OCTETS = 4 << 20


@dataclass(frozen=True, slots=True)
class HubSettings:
    router: str
    ours: bool
    overlay: tuple[Address, ...]
    nbma: Address
    endpoints: tuple[str, ...]  # addresses or DNS names, as charon takes them
    asn: int


@dataclass(frozen=True, slots=True)
class NhrpSettings:
    holding_time_s: int
    registration_s: int
    authentication: bytes | None
    phase: int
    redirect: bool
    shortcut: bool


@dataclass(frozen=True, slots=True)
class ForeignSettings:
    """A router for which the file vouches. `nbma` where it is fixed; None: it is known by its IKE identity alone."""

    router: str
    identity: str
    nbma: Address | None
    overlay: tuple[Address, ...]
    prefixes: tuple[Network, ...]
    asn: int
    role: str


@dataclass(frozen=True, slots=True)
class BfdSettings:
    interval_ms: int
    multiplier: int


@dataclass(frozen=True, slots=True)
class CloudSettings:
    name: str
    device: str
    role: str
    plane: str
    routing: str
    gre_key: int | None
    mtu_octets: int
    overlay: tuple[Network, ...]
    addresses: tuple[Address, ...]
    uplinks: tuple[str, ...]
    nflog_group: int
    hubs: tuple[HubSettings, ...]
    nhrp: NhrpSettings
    foreign: tuple[ForeignSettings, ...]
    encrypted: bool
    multicast_group: int  # NFLOG group of what goes to many; 0: none
    used_sets: tuple[str, ...]  # of the router's nft table: next hops with traffic lately
    underlay_address: Address | None
    bfd: BfdSettings | None

    @property
    def link_local_next_hops(self) -> bool:
        """Whether routing names link-local next hops: OSPFv3 and RIPng do."""
        return self.routing != "bgp" and any(address.version == 6 for address in self.addresses)


@dataclass(frozen=True, slots=True)
class UplinkSettings:
    """`addresses` and `gateways` are those of the file; with neither the kernel tells what the ISP gave."""

    name: str
    device: str
    addresses: tuple[Interface, ...]
    public: Address | None
    gateways: tuple[Address, ...]
    metric: int
    table: int
    mark: int
    weight: int
    hook: str | None
    watch: WatchSettings


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    network: str
    device: str
    address: Address


@dataclass(frozen=True, slots=True)
class VrrpSettings:
    track: Path  # where stands how much less than its priority this router offers
    priority: int
    gateways: tuple[GatewaySettings, ...]


@dataclass(frozen=True, slots=True)
class IkeSettings:
    ike_proposal: str
    esp_proposal: str
    rekey_s: int
    port: int
    nat_port: int
    dpd_delay_s: int


@dataclass(frozen=True, slots=True)
class Paths:
    vici: Path
    swanctl_conf: Path
    swanctl_dir: Path
    pki: Path
    gre: Path
    control: Path
    reading: Path
    state: Path
    learned: Path
    frr_run: Path


@dataclass(frozen=True, slots=True)
class Settings:
    network: str
    router: str
    identity: str
    transport: Address
    transport_range: Network
    prefixes: tuple[Network, ...]
    serves: tuple[Network, ...]
    ike: IkeSettings
    route_protocol: int
    uplink_priority: int
    uplink_mask: int
    uplink_tables: int
    learned_unit: str  # brings a hub's bgpd to what was learned; empty: nothing is learned here
    paths: Paths
    uplinks: tuple[UplinkSettings, ...]
    ports: tuple[str, ...]  # devices below networks and uplinks, and what the file makes of them
    clouds: tuple[CloudSettings, ...]
    vrrp: VrrpSettings | None = None


def load(path: Path) -> Settings:
    """Read daemon.json. Raises WrongInput if it is not of this format: it is ours, so `dmvpn apply` writes it anew."""
    try:
        octets = path.read_bytes()
        if len(octets) > SIZE_LIMIT_OCTETS:
            raise WrongInput(str(path), f"{len(octets)} octets, more than {SIZE_LIMIT_OCTETS}")
        return parse(json.loads(octets))
    except OSError as error:
        raise WrongInput(str(path), error.strerror or str(error), "run `dmvpn apply`") from error
    except (KeyError, TypeError, ValueError) as error:
        raise WrongInput(str(path), f"not a daemon.json of format {FORMAT} ({error!r})", "run `dmvpn apply`") from error


def parse(data: dict[str, Any]) -> Settings:
    """Settings from decoded JSON; raises KeyError, TypeError or ValueError on a wrong shape."""
    if data["version"] != FORMAT:
        raise ValueError(f"version {data['version']}")
    registry = data["registry"]
    return Settings(
        network=data["network"],
        router=data["router"],
        identity=data["identity"],
        transport=ip_address(data["transport"]),
        transport_range=ip_network(data["transport_range"]),
        prefixes=_networks(data["prefixes"]),
        serves=_networks(data["serves"]),
        ike=IkeSettings(**{name: data["ike"][name] for name in IkeSettings.__dataclass_fields__}),
        route_protocol=int(registry["route_protocol"]),
        uplink_priority=int(registry["uplink_priority"]),
        uplink_mask=int(registry["uplink_mask"]),
        uplink_tables=int(registry["uplink_tables"]),
        learned_unit=str(data["learned_unit"]),
        paths=Paths(**{name: Path(data["paths"][name]) for name in Paths.__dataclass_fields__}),
        uplinks=tuple(_uplink(row) for row in data["uplinks"]),
        ports=tuple(data["ports"]),
        clouds=tuple(_cloud(row) for row in data["clouds"]),
        vrrp=_vrrp(data["vrrp"]) if "vrrp" in data else None,
    )


def _vrrp(row: dict[str, Any]) -> VrrpSettings:
    gateways = (GatewaySettings(one["network"], one["device"], ip_address(one["address"])) for one in row["gateways"])
    return VrrpSettings(Path(row["track"]), int(row["priority"]), tuple(gateways))


def _networks(rows: list[str]) -> tuple[Network, ...]:
    return tuple(ip_network(row) for row in rows)


def _uplink(row: dict[str, Any]) -> UplinkSettings:
    return UplinkSettings(
        name=row["name"],
        device=row["device"],
        addresses=tuple(ip_interface(one) for one in row["addresses"]),
        public=_optional_address(row["public"]),
        gateways=tuple(ip_address(one) for one in row["gateways"]),
        metric=int(row["metric"]),
        table=int(row["table"]),
        mark=int(row["mark"]),
        weight=int(row["weight"]),
        hook=row["hook"],
        watch=_watch(row["watch"]),
    )


def _watch(row: dict[str, Any]) -> WatchSettings:
    return WatchSettings(
        targets=tuple(Target(ip_address(one["address"]), one["port"]) for one in row["targets"]),
        rule=Rule(**{name: int(row["rule"][name]) for name in Rule.__dataclass_fields__}),
        interval_s=float(row["interval_s"]),
        again_s=float(row["again_s"]),
        timeout_s=float(row["timeout_s"]),
        down=int(row["down"]),
        up=int(row["up"]),
        loss=_band(row["loss"]),
        latency_s=_band(row["latency_s"]),
        window=int(row["window"]),
    )


def _band(row: dict[str, float] | None) -> Band | None:
    return None if row is None else Band(float(row["worst"]), float(row["good"]))


def _cloud(row: dict[str, Any]) -> CloudSettings:
    nhrp = row["nhrp"]
    secret = nhrp["authentication"]
    return CloudSettings(
        name=row["name"],
        device=row["device"],
        role=row["role"],
        plane=row["plane"],
        routing=row["routing"],
        gre_key=row["gre_key"],
        mtu_octets=row["mtu_octets"],
        overlay=_networks(row["overlay"]),
        addresses=tuple(ip_address(one) for one in row["addresses"]),
        uplinks=tuple(row["uplinks"]),
        nflog_group=row["nflog_group"],
        hubs=tuple(_hub(one) for one in row["hubs"]),
        nhrp=NhrpSettings(
            holding_time_s=nhrp["holding_time_s"],
            registration_s=nhrp["registration_s"],
            authentication=bytes.fromhex(secret) if secret is not None else None,
            phase=nhrp["phase"],
            redirect=nhrp["redirect"],
            shortcut=nhrp["shortcut"],
        ),
        foreign=tuple(_foreign(one) for one in row["foreign"]),
        encrypted=row["encrypted"],
        multicast_group=row["multicast_group"],
        used_sets=tuple(row["used_sets"]),
        underlay_address=_optional_address(row["underlay_address"]),
        bfd=None if row["bfd"] is None else BfdSettings(row["bfd"]["interval_ms"], row["bfd"]["multiplier"]),
    )


def _foreign(row: dict[str, Any]) -> ForeignSettings:
    return ForeignSettings(
        router=row["router"],
        identity=row["identity"],
        nbma=_optional_address(row["nbma"]),
        overlay=tuple(ip_address(one) for one in row["overlay"]),
        prefixes=_networks(row["prefixes"]),
        asn=row["asn"],
        role=row["role"],
    )


def _optional_address(text: str | None) -> Address | None:
    return None if text is None else ip_address(text)


def _hub(row: dict[str, Any]) -> HubSettings:
    return HubSettings(
        router=row["router"],
        ours=row["ours"],
        overlay=tuple(ip_address(one) for one in row["overlay"]),
        nbma=ip_address(row["nbma"]),
        endpoints=tuple(row["endpoints"]),
        asn=row["asn"],
    )


if __name__ == "__main__":
    sys.exit(verbs.run("dmvpn.daemon.settings", {"check": load}, sys.argv[1:]))
