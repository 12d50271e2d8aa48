"""The network of networks/claims.yaml, in which nobody has the whole file, and certificates say less than files do."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from io import StringIO
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from vpn_lab import Vpn, until, until_nothing

from dmvpn.identity import authority
from dmvpn.identity.claims import Role
from dmvpn.lab import lifecycle
from dmvpn.lab.node import LabNode
from dmvpn.network.plan import Plan
from dmvpn.operations import labs, pki, reading
from dmvpn.operations.labs import Papers
from dmvpn.operations.reading import NetworkFile

FILE = Path(__file__).parent / "networks" / "claims.yaml"
HUBS = ("hq1", "res1")
HONEST = ("lyo1", "osl1", "par1")
EVERYBODY_KNOWS = ("hq", "reserve")

# What the certificate has instead of what the file gives the router.
LESS: dict[str, dict[str, Any]] = {
    "hel1": {"overlay": (ip_address("10.255.1.99"),)},
    "ber1": {"asn": 65016},
    "rom1": {"role": Role.SPOKE},
}
# Of whose sites a router has a part in its file, beside the hubs' and its own.
KNOWS_MORE = {"osl1": ("rome",)}


@contextmanager
def held(name: str) -> Iterator[Vpn]:
    """The lab with everybody's papers, once the honest routers are settled."""
    file = reading.read(FILE)
    planes = reading.planes_here()
    plans = reading.plans(file, planes)
    slices = {router: _slice(file, router, plan) for router, plan in plans.items()}
    configure = partial(_configure, slices, _papers(file, plans))
    lab_name = f"vpn-{name}-{os.getpid()}"
    with lifecycle.held(
        file.network.lab, tuple(plans.values()), name=lab_name, file="claims", configure=configure
    ) as lab:
        vpn = Vpn(lab)
        settle(vpn)
        yield vpn
        vpn.assert_no_traceback()


def settle(vpn: Vpn) -> None:
    """The honest spokes have both hubs, and both hubs have them."""
    for spoke in HONEST:
        until_nothing(f"{spoke} to settle", partial(unsettled, vpn, spoke), within_s=45)


def unsettled(vpn: Vpn, spoke: str) -> list[str]:
    status = vpn.status(spoke)
    left = [f"hub {hub.router} {hub.state}" for hub in status.hubs if hub.router in HUBS and hub.state != "up"]
    sessions = {row["address"] for row in status.bgp if row["state"] == "Established" and row["prefixes"]}
    return left + [f"BGP {address}" for address in ("10.255.1.1", "10.255.1.2") if address not in sessions]


def _papers(file: NetworkFile, plans: dict[str, Plan]) -> dict[str, Papers]:
    now = datetime.now(UTC)
    ca, ca_key = authority.create_authority(file.network.network, file.network.transport, now=now)
    found = {}
    for router, plan in plans.items():
        less = {**LESS.get(router, {}), **({"prefixes": plan.serves} if router == "rom1" else {})}
        claims = replace(pki.claims_of(plan), **less)
        certificate, key = authority.issue(ca, ca_key, claims, plan.ike.identity, now=now)
        assert key is not None
        found[router] = Papers(ca, certificate, key)
    return found


def _slice(file: NetworkFile, router: str, plan: Plan) -> NetworkFile:
    """What this router needs of the file: the hubs' sites and its own."""
    yaml = YAML()
    document = yaml.load(file.text)
    kept = (*EVERYBODY_KNOWS, plan.site, *KNOWS_MORE.get(router, ()))
    document["sites"] = {name: site for name, site in document["sites"].items() if name in kept}
    document.pop("lab")
    if router == "hel1":
        document["sites"]["helsinki"]["routers"]["hel1"]["tunnels"]["blue"]["address"] = ["10.255.1.13"]
        document["sites"]["helsinki"]["routers"]["hel1"]["transport"] = str(plan.transport)
    text = StringIO()
    yaml.dump(document, text)
    return reading.from_text(text.getvalue(), f"{router}.yaml", file.directory)


def _configure(slices: dict[str, NetworkFile], papers: dict[str, Papers], node: LabNode) -> None:
    own = slices[node.name]
    plan = reading.plan_of(own, node.name, reading.planes_here())
    labs._configure(own, {node.name: plan}, papers, node)


__all__ = ["FILE", "HONEST", "HUBS", "held", "settle", "unsettled", "until"]
