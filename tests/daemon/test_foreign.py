"""Routers of other vendors: known by the file alone, and only where no certificate of ours speaks."""

from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from test_daemon_settings import rendered

from dmvpn.daemon import settings
from dmvpn.daemon.engine_settings import engine_settings
from dmvpn.daemon.foreign import Foreign, members_in_clear
from dmvpn.daemon.papers import Papers
from dmvpn.daemon.settings import ForeignSettings, Settings
from dmvpn.daemon.vouching import Vouching
from dmvpn.errors import Fault
from dmvpn.identity import authority
from dmvpn.identity.claims import Claims, Role
from dmvpn.linux.vici_client import PeerCertificate

NBMA = ip_address("192.0.2.12")
UNDERLAY = ip_address("198.51.100.2")
RIGA = ForeignSettings(
    "rig1",
    "rig1.acme.example",
    NBMA,
    (ip_address("10.255.1.41"),),
    (ip_network("10.1.41.0/24"),),
    65041,
    "spoke",
)


def node(**changed: Any) -> Settings:
    """One cloud on the kernel plane with a foreign member."""
    read = settings.parse(rendered("hel1"))
    cloud = replace(read.clouds[0], plane="kernel", foreign=(RIGA,), underlay_address=UNDERLAY, **changed)
    return replace(read, clouds=(cloud,))


def test_a_foreign_router_may_claim_what_the_file_says_wherever_it_is() -> None:
    claims = Foreign(node()).claims("rig1.acme.example", ip_address("203.0.113.7"))
    assert claims is not None
    assert claims.permits_binding(RIGA.overlay[0]) is None
    assert claims.permits_prefix(RIGA.prefixes[0]) is None
    assert claims.permits_prefix(ip_network("10.1.42.0/24"))
    assert claims.transport == ip_address("203.0.113.7")


def test_who_is_not_in_the_file_claims_nothing() -> None:
    foreign = Foreign(node())
    assert foreign.claims("hq1.acme.example", NBMA) is None
    assert (foreign.identity(NBMA), foreign.identity(UNDERLAY)) == ("rig1.acme.example", None)


def test_in_two_clouds_it_has_the_addresses_of_both() -> None:
    one = node()
    green = replace(one.clouds[0], name="green", foreign=(replace(RIGA, overlay=(ip_address("10.255.2.41"),)),))
    claims = Foreign(replace(one, clouds=(*one.clouds, green))).claims(RIGA.identity, NBMA)
    assert claims is not None
    assert claims.overlay == (ip_address("10.255.1.41"), ip_address("10.255.2.41"))


def test_a_member_in_clear_counts_in_its_own_cloud_only() -> None:
    read = node(encrypted=False)
    assert list(members_in_clear(read.clouds[0], read.network)) == [NBMA]
    assert Foreign(read).claims(RIGA.identity, NBMA) is None


@pytest.mark.parametrize(
    ("changed", "nbma", "transport", "underlay"),
    [
        pytest.param({}, "transport", True, UNDERLAY, id="kernel plane, foreign members"),
        pytest.param({"foreign": ()}, "transport", True, None, id="all are ours"),
        pytest.param({"plane": "userspace"}, "transport", True, None, id="the userspace plane cannot reach them"),
        pytest.param({"encrypted": False}, "underlay", False, None, id="in clear there is one address only"),
    ],
)
def test_what_the_engine_calls_itself(changed: dict[str, Any], nbma: str, *, transport: bool, underlay: Any) -> None:
    read = node()
    cloud = replace(read.clouds[0], **changed)
    made = engine_settings(cloud, read)
    assert made.nbma == (read.transport if nbma == "transport" else UNDERLAY)
    assert bool(made.transport) is transport
    assert made.underlay_nbma == underlay


def test_a_cloud_in_clear_needs_a_fixed_address() -> None:
    read = node()
    with pytest.raises(Fault, match="fixed address"):
        engine_settings(replace(read.clouds[0], encrypted=False, underlay_address=None), read)


class Charon:
    """The certificates it knows."""

    def __init__(self, *certificates: PeerCertificate) -> None:
        self._certificates = certificates

    def peer_certificates(self) -> tuple[PeerCertificate, ...]:
        return self._certificates

    def authority_certificates(self) -> tuple[bytes, ...]:
        return ()


def test_claims_that_another_ca_has_signed_are_not_read(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    transport = ip_network("100.64.0.0/16")
    claims = Claims(
        "acme",
        "hel1",
        Role.SPOKE,
        ip_address("100.64.0.11"),
        (ip_address("10.255.1.11"),),
        (ip_network("10.1.11.0/24"),),
        65011,
    )
    found = []
    for _ in range(2):
        ca, key = authority.create_authority("acme", transport, now=now)
        certificate, _ = authority.issue(ca, key, claims, "hel1.acme.example", now=now)
        found.append((ca, certificate))
    (ours, mine), (_, forged) = found
    (tmp_path / "ca.pem").write_bytes(ours)
    vouching = Vouching(Papers(tmp_path))
    late, early = float(now.timestamp()) + 9, float(now.timestamp())
    charon: Any = Charon(
        PeerCertificate(der(forged), ("hel1.acme.example",), late),
        PeerCertificate(der(mine), ("hel1.acme.example",), early),
    )
    for _ in range(2):
        vouched = vouching.known(charon)["hel1.acme.example"].vouched
        assert vouched is not None
        assert vouched.claims == claims
    gone: Any = Charon(PeerCertificate(der(forged), ("hel1.acme.example",), late))
    assert vouching.known(gone)["hel1.acme.example"].vouched is None


def der(pem: bytes) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
