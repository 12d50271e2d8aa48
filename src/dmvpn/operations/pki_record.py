"""What the authority has signed, what of that is revoked, and the lists that say so."""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dmvpn.errors import Fault, WrongInput
from dmvpn.identity import authority, issuing, revocation
from dmvpn.identity.authority import Description
from dmvpn.identity.revocation import Reason, Revoked
from dmvpn.linux import files
from dmvpn.operations import pki
from dmvpn.operations.pki import CRL, FOREIGN_CRL, Authorities, Pair, Unlock
from dmvpn.operations.reading import NetworkFile

REVOKED = "revoked.json"
REVOKED_LIMIT_OCTETS = 16 << 20
RENEWER = "renewal authority"
SERIAL_SHORTEST = 8  # hexadecimal digits of a serial number that tell one from a router's name, and from another


@dataclass(frozen=True, slots=True)
class Row:
    """One certificate as `pki list` shows it. `what`: authority, hub, spoke, foreign, renewal authority."""

    serial: str
    what: str
    name: str
    since: datetime
    until: datetime
    state: str


@dataclass(frozen=True, slots=True)
class Published:
    """One list that was written."""

    path: Path
    number: int
    names: int
    until: datetime


def rows(directory: Path, now: datetime) -> tuple[Row, ...]:
    """Everything that was signed here, the authorities first, then by name and date. Raises Fault."""
    revoked = {one.serial: one for one in _revoked(directory)}
    found = []
    for name in (pki.CA_CERTIFICATE, pki.FOREIGN_CERTIFICATE):
        if (directory / name).exists():
            found.append(_row(_read(directory / name), "authority", {}, now))
    signed = [_read(path) for path in sorted((directory / pki.ISSUED).glob("*.pem"))]
    ordered = sorted(signed, key=lambda one: (_name(one), one.not_before))
    return (*found, *(_row(one, _what(one), revoked, now) for one in ordered))


def _read(path: Path) -> Description:
    return authority.describe(files.read(path, limit_octets=pki.PEM_LIMIT_OCTETS))


def _what(described: Description) -> str:
    if described.authority:
        return RENEWER
    return described.claims.role.value if described.claims is not None else "foreign"


def _name(described: Description) -> str:
    if described.claims is not None:
        return described.claims.router
    return described.names[0].partition(".")[0] if described.names else described.subject.removeprefix("CN=")


def _row(described: Description, what: str, revoked: dict[int, Revoked], now: datetime) -> Row:
    if described.serial in revoked:
        state = str(revoked[described.serial])
    elif now >= described.not_after:
        state = "expired"
    else:
        state = "valid" if now >= described.not_before else "not yet valid"
    since, until = described.not_before, described.not_after
    return Row(f"{described.serial:x}", what, _name(described), since, until, state)


def reason_called(word: str) -> Reason:
    """Raises WrongInput."""
    if word not in tuple(Reason):
        raise WrongInput("--reason", f"{word!r}", f"say one of: {', '.join(Reason)}")
    return Reason(word)


def revoke(directory: Path, which: str, reason: Reason, now: datetime) -> tuple[Row, ...]:
    """Mark every certificate of a router that is still good, or the one with this serial number. Needs no key.

    It counts once `publish` has made the list and a router has it. Raises WrongInput for what was never signed here.
    """
    every = [one for one in rows(directory, now) if one.what != "authority"]
    of_router = [one for one in every if one.name == which]
    chosen = of_router or [
        one for one in every if len(which) >= SERIAL_SHORTEST and one.serial.startswith(which.lower())
    ]
    if not chosen:
        raise WrongInput(which, "is no router or serial number of `dmvpn pki list`", "say one that it shows")
    if not of_router and len(chosen) > 1:
        raise WrongInput(which, f"begins {len(chosen)} serial numbers", "say more of it")
    good = [one for one in chosen if one.state in ("valid", "not yet valid")]
    if not good:
        raise WrongInput(which, f"has nothing to revoke: {chosen[-1].state}", "see `dmvpn pki list`")
    known = _revoked(directory)
    fresh = [Revoked(int(one.serial, 16), _label(one), reason, now.replace(microsecond=0)) for one in good]
    _write(directory, [*known, *fresh])
    return tuple(good)


def _label(row: Row) -> str:
    return "" if row.what == RENEWER else row.name


def publish(file: NetworkFile, directory: Path, *, days: int, unlock: Unlock | None = None) -> tuple[Published, ...]:
    """Sign the revocation lists anew: the network's, and that of foreign routers if there are any. Raises Fault."""
    ca, now = pki.authority_of(file, directory, unlock), datetime.now(UTC)
    published = [_publish(directory, ca.ours, CRL, days, now)]
    if ca.foreign is not None:
        published.append(_publish(directory, ca.foreign, FOREIGN_CRL, days, now))
    return tuple(published)


def _publish(directory: Path, pair: Pair, name: str, days: int, now: datetime) -> Published:
    issuer, path = issuing.opened(pair.certificate, pair.key), directory / name
    entries = [one for one in _revoked(directory) if _signed_by(directory, one, pair.certificate)]
    before = 0
    if path.exists():
        before = revocation.read(files.read(path), [issuer.certificate], str(path)).number
    # The time as a number goes on counting though the last list were lost.
    number = max(int(now.timestamp()), before + 1)
    files.write(path, revocation.make(issuer, entries, number=number, now=now, days=days))
    for papers in (directory / pki.ROUTERS).glob(f"*/{pki.ROUTER_CERTIFICATE}"):
        files.write(papers.parent / name, files.read(path))
    found = revocation.read(files.read(path), [issuer.certificate])
    return Published(path, found.number, len(found.entries), found.next_update)


def lists(directory: Path, ca: Authorities) -> tuple[bytes | None, bytes | None]:
    """The network's list and that of foreign routers as they were published last, PEM; None where there is none.

    Raises WrongInput for one that its authority did not sign.
    """
    ours = _published(directory / CRL, ca.ours)
    return ours, None if ca.foreign is None else _published(directory / FOREIGN_CRL, ca.foreign)


def _published(path: Path, pair: Pair) -> bytes | None:
    if not path.exists():
        return None
    octets = files.read(path, limit_octets=2 * revocation.LIST_LIMIT_OCTETS)
    return revocation.read(octets, [authority.certificate_in(pair.certificate)], str(path)).pem


def _signed_by(directory: Path, entry: Revoked, issuer: bytes) -> bool:
    described = _read(directory / pki.ISSUED / f"{entry.serial:x}.pem")
    return described.issuer == authority.describe(issuer).subject


def _revoked(directory: Path) -> list[Revoked]:
    path = directory / REVOKED
    if not path.exists():
        return []
    try:
        values: list[dict[str, Any]] = json.loads(files.read(path, limit_octets=REVOKED_LIMIT_OCTETS))
        return [
            Revoked(int(one["serial"], 16), one["router"], Reason(one["reason"]), datetime.fromisoformat(one["at"]))
            for one in values
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise Fault(str(path), f"cannot be read: {error!r}", "put back the copy that you have of it") from error


def _write(directory: Path, entries: list[Revoked]) -> None:
    values = [asdict(one) | {"serial": f"{one.serial:x}", "at": one.at.isoformat()} for one in entries]
    files.write(directory / REVOKED, json.dumps(values, indent=1) + "\n", mode=0o600)
