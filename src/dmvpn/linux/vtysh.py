"""What our own FRR says, through vtysh. FRR manual, "VTY shell"; show commands with json."""

import json
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

from dmvpn.errors import Fault
from dmvpn.linux import process

_LIMIT_S = 10.0


@dataclass(frozen=True, slots=True)
class BgpPeer:
    """A neighbour in one address family. `state` is FRR's word; `prefixes`: received and accepted; `up_s`: since."""

    address: IPv4Address | IPv6Address
    asn: int
    state: str
    prefixes: int
    up_s: float
    family: str  # FRR's word, such as ipv4Unicast
    dynamic: bool  # came by a listen range


@dataclass(frozen=True, slots=True)
class OspfNeighbour:
    """A neighbour of OSPF. `full`: both have the same picture of the area, RFC 2328 10.1."""

    router_id: IPv4Address
    address: IPv4Address
    device: str
    full: bool


def show(run: Path, command: str) -> Any:
    """The answer of a show command that ends in json, parsed. `run` holds the vty sockets of one instance.

    Raises Fault when no daemon listens there, or what it says is not JSON.
    """
    argv = ("vtysh", "--vty_socket", str(run), "-c", command)
    result = process.run(argv, timeout_s=_LIMIT_S, package="frr")
    try:
        return json.loads(result.stdout or b"{}")
    except ValueError as error:
        raise Fault("frr", f"{command}: {process.shown(result.stdout)}") from error


def bgp_peers(run: Path) -> tuple[BgpPeer, ...]:
    """All BGP neighbours of an instance, one row for each address family; none when no BGP is configured."""
    families = show(run, "show bgp summary json")
    try:
        return tuple(
            BgpPeer(
                address=ip_address(address),
                asn=int(peer["remoteAs"]),
                state=str(peer["state"]),
                prefixes=int(peer.get("pfxRcd", 0)),
                up_s=int(peer.get("peerUptimeMsec", 0)) / 1000,
                family=family,
                dynamic=bool(peer.get("dynamicPeer", False)),
            )
            for family, summary in families.items()
            if isinstance(summary, dict)
            for address, peer in summary.get("peers", {}).items()
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Fault("frr", f"show bgp summary json: unexpected form: {error!r}") from error


def ospf_neighbours(run: Path) -> tuple[OspfNeighbour, ...]:
    """All OSPF neighbours of an instance; none when it has no ospfd."""
    if not (run / "ospfd.vty").exists():
        return ()
    try:
        return tuple(
            OspfNeighbour(
                router_id=IPv4Address(router_id),
                address=IPv4Address(row["address"] if "address" in row else row["ifaceAddress"]),
                device=str(row["ifaceName"]).partition(":")[0],
                full=str(row.get("nbrState") or row.get("state")).startswith("Full"),
            )
            for router_id, rows in show(run, "show ip ospf neighbor json").get("neighbors", {}).items()
            for row in rows
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Fault("frr", f"show ip ospf neighbor json: unexpected form: {error!r}") from error
