"""A network's authority, one that renews below it, and routers of both."""

from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network

from cryptography import x509

from dmvpn.identity import authority, issuing, keys, renewal
from dmvpn.identity.chain import Chain
from dmvpn.identity.claims import Claims, Role
from dmvpn.identity.renewal import Asking

NOW = datetime.now(UTC)
RANGE = ip_network("100.64.0.0/16")
CLAIMS = Claims(
    "acme",
    "par1",
    Role.SPOKE,
    ip_address("100.64.0.12"),
    (ip_address("10.255.1.12"),),
    (ip_network("10.1.12.0/24"),),
    65002,
)
OTHER = replace(
    CLAIMS,
    router="lyo1",
    transport=ip_address("100.64.0.13"),
    overlay=(ip_address("10.255.1.13"),),
    prefixes=(ip_network("10.1.13.0/24"),),
)
ROOT = authority.create_authority("acme", RANGE, now=NOW)
RENEWER = renewal.create_renewal_authority(*ROOT, "acme", "hq1", now=NOW)
SIGNER = issuing.opened(*RENEWER)


def chain() -> Chain:
    return Chain(ROOT[0], [x509.load_pem_x509_certificate(RENEWER[0])])


def router(claims: Claims = CLAIMS, days: int = 300, now: datetime = NOW) -> tuple[bytes, bytes]:
    pem, key = authority.issue(*ROOT, claims, f"{claims.router}.example.net", now=now, days=days)
    assert key is not None
    return pem, key


def asking(pem: bytes, key: bytes, new: bytes | None = None) -> Asking:
    return renewal.ask(pem, key, new or keys.key_pem(keys.new_key()))


def renewed(pem: bytes, key: bytes, now: datetime = NOW) -> tuple[bytes, bytes]:
    """The next certificate and its key."""
    new = keys.key_pem(keys.new_key())
    asked = asking(pem, key, new)
    vouched = renewal.judge(asked, chain(), lambda _: "", now)
    return renewal.renew(asked, vouched, chain(), SIGNER, now), new
