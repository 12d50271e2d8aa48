"""Renewal before expiry: a router asks with the key it has for a certificate of a new one.

The root is offline, so an authority below it, on a hub that the operator names, answers. It vouches again for what the
asker's certificate says already, for a bounded time, and for nobody who is revoked, expired or not of this network.
"""

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from dmvpn.errors import Fault, WrongInput
from dmvpn.identity import authority, issuing, keys, requests
from dmvpn.identity.chain import Chain, Vouched, origin_extension, to_der
from dmvpn.identity.claims import check_name
from dmvpn.identity.issuing import Issuer

RENEWED_DAYS = 90
RENEWER_DAYS = 1825
# Below this a certificate is an invitation's: it is renewed at once, and for one key only, so that a second user is
# noticed. `invite` makes none that lives as long.
INVITATION_DAYS = 15
_CONTEXT = b"DMVPN renewal 1\0"
_WORDS = ("certificate", "request", "signature")


def create_renewal_authority(
    ca_certificate: bytes, ca_key: bytes, network: str, hub: str, *, now: datetime, days: int = RENEWER_DAYS
) -> tuple[bytes, bytes]:
    """An authority below the root for one hub: certificate and key, PEM. Its address blocks are the root's.

    Raises WrongInput for a root that lets nobody sign below it.
    """
    check_name("router", hub)
    root = issuing.opened(ca_certificate, ca_key)
    constraints = root.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    if constraints.path_length == 0:
        fix = "renew by hand with `dmvpn pki renew ROUTER`, or begin a new authority"
        raise WrongInput("CA", "was made without room for an authority below it", fix)
    name = f"{network[: authority.NAME_ROOM]} renewal {hub[:14]}"
    extensions = ((authority.address_blocks(authority.blocks_of(root.certificate)), True),)
    ends = now + timedelta(days=days)
    pem, key = issuing.authority_certificate(name, extensions, path_length=0, now=now, ends=ends, issuer=root)
    return pem, keys.key_pem(key)


@dataclass(frozen=True, slots=True)
class Asking:
    """What a router sends: the certificate it has, a request for a new key, and that it has the old key too. DER."""

    certificate: bytes
    request: bytes
    signature: bytes

    def to_wire(self) -> dict[str, str]:
        return {word: base64.b64encode(getattr(self, word)).decode() for word in _WORDS}

    @classmethod
    def from_wire(cls, value: dict[str, Any]) -> "Asking":
        """Raises WrongInput."""
        try:
            octets = {word: base64.b64decode(value[word], validate=True) for word in _WORDS}
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise WrongInput("renewal", "is not asked for in the way that routers do") from error
        return cls(**octets)


def ask(certificate: bytes, key: bytes, new_key: bytes) -> Asking:
    """Ask for a certificate of `new_key`, being the owner of `certificate` and `key`. All PEM. Raises WrongInput."""
    described = authority.describe(certificate)
    pem, _ = requests.create_request(described.names[0], new_key)
    request = requests.load_request(pem).public_bytes(Encoding.DER)
    signature = keys.load_key(key, None, "key").sign(_CONTEXT + request, ec.ECDSA(hashes.SHA384()))
    return Asking(to_der(certificate), request, signature)


def judge(asking: Asking, chain: Chain, revoked: Callable[[Vouched], str], now: datetime) -> Vouched:
    """Who asks, once everything about it holds. Raises Fault, saying what does not."""
    vouched = chain.vouch(asking.certificate)
    where = f"renewal for {vouched.claims.router}"
    if reason := revoked(vouched):
        raise Fault(where, reason, "its administrator needs new papers of `dmvpn pki issue`")
    if not vouched.not_before <= now <= vouched.not_after:
        dates = f"{vouched.not_before:%Y-%m-%d} to {vouched.not_after:%Y-%m-%d}"
        what = f"its certificate is valid from {dates}, and the clock here says {now:%Y-%m-%d %H:%M} UTC"
        raise Fault(where, what, "an expired one is renewed by the authority: `dmvpn pki renew ROUTER`")
    public = x509.load_der_x509_certificate(asking.certificate).public_key()
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise Fault(where, "its certificate is for no ECDSA key")
    try:
        public.verify(asking.signature, _CONTEXT + asking.request, ec.ECDSA(hashes.SHA384()))
    except InvalidSignature as error:
        raise Fault(where, "whoever asks does not have the key of that certificate") from error
    if requests.identity_of_request(asking.request) not in vouched.identities:
        raise Fault(where, "asks in another router's name")
    return vouched


def renew(asking: Asking, vouched: Vouched, chain: Chain, renewer: Issuer, now: datetime) -> bytes:
    """The new certificate, PEM: same claims and name for the new key. What is asked was judged. Raises WrongInput."""
    public = keys.load_public_key(requests.public_key_of_request(asking.request))
    origin = (origin_extension(chain.origin_certificate(asking.certificate)), False)
    return authority.vouched(
        renewer, vouched.claims, vouched.identities[0], public, now=now, days=RENEWED_DAYS, further=(origin,)
    )


def accept(certificate: bytes, before: bytes, new_key: bytes, chain: Chain, now: datetime) -> Vouched:
    """What the asker holds an answer against before it is put in place: PEM. Raises Fault."""
    found, was = chain.vouch(to_der(certificate)), chain.vouch(to_der(before))
    where = "renewed certificate"
    if found.claims != was.claims or found.identities != was.identities:
        raise Fault(where, "says something else than the one it replaces")
    if authority.public_key_in(certificate) != keys.public_key_of(new_key):
        raise Fault(where, "is for another key than the one it was asked for")
    if not found.not_before <= now < found.not_after:
        raise Fault(where, f"is not valid now: {found.not_before:%Y-%m-%d} to {found.not_after:%Y-%m-%d}")
    return found
