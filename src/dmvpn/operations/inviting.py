"""Inviting a router: one encrypted file with all that it needs to join, and nothing of anybody else's."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from dmvpn.errors import Fault, WrongInput
from dmvpn.identity import authority, bundle, requests
from dmvpn.linux import files
from dmvpn.network import slice as slices
from dmvpn.network.source import read
from dmvpn.operations import pki, pki_record, reading
from dmvpn.operations.pki import Unlock
from dmvpn.operations.reading import NetworkFile

VALID_DAYS = 7
ANSWER_DAYS = 30
PASSPHRASE_LIMIT_OCTETS = 4096


@dataclass(frozen=True, slots=True)
class Invitation:
    """What `invite` made: the octets of the bundle, and what is worth telling of it."""

    octets: bytes
    router: str
    expires: datetime
    secrets: tuple[str, ...]
    renewed: bool
    """Whether a hub may renew its certificate. If not, the router is out when the invitation ends."""


def invite(
    file: NetworkFile,
    directory: Path,
    router: str,
    words: str,
    *,
    days: int = VALID_DAYS,
    machine: str | None = None,
    unlock: Unlock | None = None,
) -> Invitation:
    """A bundle for one of our routers, with a key and a certificate that end with it unless the router renews them.

    `directory` is that of the authority. Raises WrongInput for a router that is unknown or foreign.
    """
    plan = reading.plan_of(file, router)
    bundle.refuse_weak(words)
    now = datetime.now(UTC)
    ca = pki.authority_of(file, directory, unlock)
    crl, foreign_crl = pki_record.lists(directory, ca)
    own = pki.own_papers(plan, ca.ours, days=days)
    pki.record(directory, own.certificate)
    given = secrets_of(file, router)
    contents = bundle.Contents(
        network_file=sliced(file, router),
        ca=ca.ours.certificate,
        certificate=own.certificate,
        key=own.key,
        foreign_ca=None if ca.foreign is None else ca.foreign.certificate,
        crl=crl,
        foreign_crl=foreign_crl,
        secrets=given,
    )
    head = bundle.Head(file.network.network, router, now, now + timedelta(days=days), machine)
    return Invitation(
        octets=bundle.seal(head, contents, words),
        router=router,
        expires=head.expires,
        secrets=tuple(name for name, _ in given),
        renewed=any(row.what == pki_record.RENEWER and row.state == "valid" for row in pki_record.rows(directory, now)),
    )


def answer(file: NetworkFile, ca: pki.Authorities, signed: pki.Issued, request: bytes) -> Path:
    """The answer to a router's request beside its new certificate: all it needs to join, for its key alone.

    Returns its path. `signed` is what `pki.sign` made of the request.
    """
    now, router = datetime.now(UTC), signed.router
    crl, foreign_crl = pki_record.lists(signed.directory, ca)
    contents = bundle.Contents(
        network_file=sliced(file, router),
        ca=ca.ours.certificate,
        certificate=files.read(signed.directory / pki.ROUTER_CERTIFICATE, limit_octets=pki.PEM_LIMIT_OCTETS),
        key=b"",
        foreign_ca=None if ca.foreign is None else ca.foreign.certificate,
        crl=crl,
        foreign_crl=foreign_crl,
        secrets=secrets_of(file, router),
    )
    head = bundle.Head(file.network.network, router, now, min(signed.until, now + timedelta(days=ANSWER_DAYS)))
    out = signed.directory / f"{router}.signed"
    octets = bundle.seal_answer(head, contents, requests.public_key_of_request(request), ca.ours.key)
    files.write(out, octets, mode=0o600)
    return out


def anchor(ca: bytes) -> str:
    """The trust anchor's fingerprint, to be compared over another way."""
    return authority.describe(ca).sha256


def refuse(file: NetworkFile, router: str, out: Path) -> None:
    """Raises what would be in the way of an invitation, before anybody is asked for a passphrase."""
    reading.plan_of(file, router)
    if out.exists():
        raise Fault(str(out), "is there already", "remove it, or write another file with --out")


def sliced(file: NetworkFile, router: str) -> str:
    """The router's part of the file, as the text of a file."""
    values = cast("dict[str, Any]", read(file.text, file.name).values)
    return slices.slice_text(values, file.network, router)


def secrets_of(file: NetworkFile, router: str) -> tuple[tuple[str, bytes], ...]:
    """The secret files that this router needs, and awall's. Raises Fault if one is missing or open to others."""
    policies = reading.policies(file.network, file.directory)
    found = []
    for name in slices.slice_secrets(file.network, router):
        if name in policies:
            found.append((name, policies[name]))
            continue
        octets = files.read_private(file.directory / name, limit_octets=reading.SECRET_LIMIT_OCTETS)
        found.append((name, octets))
    return tuple(found)


def write(invitation: Invitation, out: Path) -> None:
    """The bundle, for its owner's eyes. Raises Fault."""
    files.write_secret(out, invitation.octets)


def passphrase_in(path: Path) -> str:
    """The first line of a file that nobody else may read. Raises Fault, WrongInput."""
    files.check_private(path)
    text = files.read_text(path, limit_octets=PASSPHRASE_LIMIT_OCTETS)
    words, _, rest = text.partition("\n")
    if rest.strip():
        raise WrongInput(str(path), "has more than one line", "write the passphrase, and nothing else")
    return words.rstrip("\r")


def new_passphrase() -> str:
    return bundle.passphrase()
