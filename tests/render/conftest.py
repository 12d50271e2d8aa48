"""Keys for charon, namespaces, and what a machine must have for a test."""

import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from render_trees import example_plan
from render_wires import Namespaces

from dmvpn.identity import authority
from dmvpn.identity.claims import Claims, Role
from dmvpn.linux import process
from dmvpn.network.plan import Plan


@pytest.fixture
def need_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root for namespaces")


@pytest.fixture
def need_frr() -> None:
    if not Path("/usr/lib/frr/bgpd").exists() or shutil.which("vtysh") is None:
        pytest.skip("needs the Debian package frr")


@pytest.fixture
def need_clients() -> None:
    search = os.pathsep.join(process.SEARCH_PATH)
    if not all(shutil.which(name, path=search) for name in ("dhcpcd", "pppd")):
        pytest.skip("needs the Debian packages dhcpcd-base and ppp")


@pytest.fixture
def need_charon() -> None:
    if not Path("/usr/lib/ipsec/charon").exists() or shutil.which("swanctl") is None:
        pytest.skip("needs the Debian packages strongswan-charon and strongswan-swanctl")
    if not Path("/dev/net/tun").exists():
        pytest.skip("needs /dev/net/tun")


@pytest.fixture
def namespaces(need_root: None) -> Iterator[Namespaces]:
    spaces = Namespaces(f"render{os.getpid()}")
    try:
        yield spaces
    finally:
        spaces.close()


@pytest.fixture(scope="session")
def demo_pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """hq1's pki directory as `dmvpn join` leaves it."""
    plan = example_plan("demo", "hq1")
    now = datetime.now(UTC)
    ca_certificate, ca_key = authority.create_authority(plan.network, plan.transport_range, now=now)
    certificate, key = authority.issue(ca_certificate, ca_key, _claims(plan), plan.ike.identity, now=now)
    assert key is not None
    pki = tmp_path_factory.mktemp("pki")
    files = {
        "ca.pem": ca_certificate,
        "router.pem": certificate,
        "router.key": key,
        "swanctl/x509ca/ca.pem": ca_certificate,
        "swanctl/x509/router.pem": certificate,
        "swanctl/private/router.key": key,
    }
    for name, octets in files.items():
        path = pki / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(octets)
        path.chmod(0o600)
    return pki


def _claims(plan: Plan) -> Claims:
    return Claims(
        network=plan.network,
        router=plan.router,
        role=Role.HUB,
        transport=plan.transport,
        overlay=plan.clouds[0].addresses,
        prefixes=plan.prefixes,
        asn=plan.asn,
    )
