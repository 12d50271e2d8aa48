"""The network's own certificate authority: one directory beside the network file, and what a router takes from it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from dmvpn.errors import Fault, WrongInput
from dmvpn.identity import authority, keys, renewal, requests
from dmvpn.identity.claims import Claims, Role
from dmvpn.linux import files
from dmvpn.network.places import places
from dmvpn.network.plan import Plan
from dmvpn.network.plan import Role as PlanRole
from dmvpn.operations import reading
from dmvpn.operations.reading import NetworkFile

CA_CERTIFICATE, CA_KEY = "ca.pem", "ca.key"
FOREIGN_CERTIFICATE, FOREIGN_KEY = "foreign-ca.pem", "foreign-ca.key"
ROUTER_CERTIFICATE, ROUTER_KEY = "router.pem", "router.key"
RENEWER_CERTIFICATE, RENEWER_KEY = "renewal.pem", "renewal.key"  # among a hub's papers, if it is to renew
CRL, FOREIGN_CRL = "crl.pem", "foreign-crl.pem"
ROUTERS = "routers"
ISSUED = "issued"  # every certificate that was signed here, by its serial number: `list` and `revoke` read them
PEM_LIMIT_OCTETS = 1 << 16
PASSPHRASE_SHORTEST = 12

# Asked for the passphrase of the key file that it is given.
Unlock = Callable[[Path], str]


@dataclass(frozen=True, slots=True)
class Issued:
    """What `issue` made. `claims` is None for a foreign router: the network file has them."""

    router: str
    directory: Path
    claims: Claims | None
    until: datetime


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, PEM."""

    certificate: bytes
    key: bytes


def claims_of(plan: Plan) -> Claims:
    """What a router's certificate lets it be: its own networks, or for a hub all that it relays."""
    hub = any(cloud.role is PlanRole.HUB for cloud in plan.clouds)
    relayed = (*plan.prefixes, *(net for cloud in plan.clouds for net in cloud.overlay))
    return Claims(
        network=plan.network,
        router=plan.router,
        role=Role.HUB if hub else Role.SPOKE,
        transport=plan.transport,
        overlay=tuple(address for cloud in plan.clouds for address in cloud.addresses),
        prefixes=relayed if hub else plan.serves,
        asn=plan.asn,
    )


def foreign_routers(file: NetworkFile) -> tuple[str, ...]:
    """The routers that are not ours, in the file's order."""
    return tuple(place.name for place in places(file.network) if not place.ours)


def init(file: NetworkFile, directory: Path, words: str | None) -> Path:
    """Make the network's CA in `directory`; its key opens with `words`, or lies open without any.

    Raises Fault if there is one: a second CA would lock every router out. A network with foreign routers gets their CA
    as well.
    """
    certificate = directory / CA_CERTIFICATE
    refuse_second(directory)
    network, passphrase = file.network, None if words is None else passphrase_of(words)
    pem, key = authority.create_authority(
        network.network, network.transport, now=datetime.now(UTC), passphrase=passphrase
    )
    files.make_directory(directory, mode=0o700)
    files.write_secret(directory / CA_KEY, key)
    files.write(certificate, pem)
    if foreign_routers(file):
        _foreign_authority(file, directory, passphrase)
    return certificate


def refuse_second(directory: Path) -> None:
    """Raises Fault if there is an authority already."""
    if (directory / CA_CERTIFICATE).exists() or (directory / CA_KEY).exists():
        raise Fault(str(directory), "has a certificate authority already", "use it with `dmvpn pki issue ROUTER`")


def passphrase_of(words: str) -> bytes:
    """Raises WrongInput for what somebody with the file would guess."""
    if len(words) < PASSPHRASE_SHORTEST:
        raise WrongInput("passphrase", f"{len(words)} characters", f"use {PASSPHRASE_SHORTEST} or more")
    return words.encode()


def issue(
    file: NetworkFile,
    directory: Path,
    router: str,
    *,
    days: int = authority.ROUTER_DAYS,
    unlock: Unlock | None = None,
    ca: "Authorities | None" = None,
) -> Issued:
    """A key and certificate for one router, in `directory`/routers/ROUTER.

    For a router of ours that is what `pki install` takes there; for a foreign one what its administrator imports.
    `ca` are authorities that were opened already.
    """
    ca = ca or authority_of(file, directory, unlock)
    claims, own = _papers(file, ca, router, None, days)
    if own.key is None:
        raise Fault(router, "no key was made for it")
    return _laid_out(directory, ca, router, claims, own)


def sign(
    file: NetworkFile,
    directory: Path,
    request: bytes,
    *,
    router: str | None = None,
    days: int = authority.ROUTER_DAYS,
    unlock: Unlock | None = None,
    ca: "Authorities | None" = None,
) -> Issued:
    """A certificate for the key of a signing request; what it claims is what the file says of the router.

    The request names the router by its identity; `router` only has to agree. Raises WrongInput for a request of nobody
    in the file, and for one that was changed on its way. `ca` are authorities that were opened already.
    """
    identity, public = requests.identity_of_request(request), requests.public_key_of_request(request)
    named = router_called(file, identity)
    if router is not None and router != named:
        raise WrongInput("signing request", f"is of {identity}, which is {named}, not {router}", "take the right one")
    ca = ca or authority_of(file, directory, unlock)
    claims, own = _papers(file, ca, named, public, days)
    return _laid_out(directory, ca, named, claims, own)


def request_in(path: Path) -> bytes:
    """A signing request's octets. Raises Fault."""
    return files.read(path, limit_octets=PEM_LIMIT_OCTETS)


def router_called(file: NetworkFile, identity: str) -> str:
    """The router of the file with this IKE identity. Raises WrongInput."""
    for router in (*reading.our_routers(file), *foreign_routers(file)):
        if identity == f"{router}.{file.network.domain}":
            return router
    known = f"{file.name} has no router that calls itself {identity}"
    raise WrongInput("signing request", known, "add the router to the file, or make the request with its name")


def _papers(
    file: NetworkFile, ca: "Authorities", router: str, public: bytes | None, days: int
) -> tuple[Claims | None, "Signed"]:
    now = datetime.now(UTC)
    if ca.foreign is not None and router in foreign_routers(file):
        pair, identity = ca.foreign, f"{router}.{file.network.domain}"
        return None, Signed(*authority.issue_foreign(pair.certificate, pair.key, identity, public, now=now, days=days))
    plan, pair = reading.plan_without_secrets(file, router), ca.ours
    claims = claims_of(plan)
    made = authority.issue(pair.certificate, pair.key, claims, plan.ike.identity, public, now=now, days=days)
    return claims, Signed(*made)


@dataclass(frozen=True, slots=True)
class Signed:
    """A certificate, and its key if that was made here. PEM."""

    certificate: bytes
    key: bytes | None


def _laid_out(directory: Path, ca: "Authorities", router: str, claims: Claims | None, own: Signed) -> Issued:
    out = directory / ROUTERS / router
    files.make_directory(out, mode=0o700)
    if own.key is None:
        files.remove(out / ROUTER_KEY)  # of a certificate before this one
    else:
        files.write_secret(out / ROUTER_KEY, own.key)
    files.write(out / ROUTER_CERTIFICATE, own.certificate)
    files.write(out / CA_CERTIFICATE, ca.ours.certificate)
    if ca.foreign is not None:
        files.write(out / FOREIGN_CERTIFICATE, ca.foreign.certificate)
    for path in (*directory.glob("renewal-*.pem"), directory / CRL, directory / FOREIGN_CRL):
        if path.exists():
            files.write(out / path.name, files.read(path))
    record(directory, own.certificate)
    return Issued(router, out, claims, authority.describe(own.certificate).not_after)


def make_renewer(
    file: NetworkFile, directory: Path, hub: str, *, unlock: Unlock | None = None, ca: "Authorities | None" = None
) -> Path:
    """An authority below the root for one hub, among that hub's papers: with it the hub renews what others have.

    Raises WrongInput for a router that is no hub of ours.
    """
    plan = refuse_no_hub(file, hub)
    root = (ca or authority_of(file, directory, unlock)).ours
    pem, key = renewal.create_renewal_authority(root.certificate, root.key, plan.network, hub, now=datetime.now(UTC))
    out = directory / ROUTERS / hub
    files.make_directory(out, mode=0o700)
    files.write_secret(out / RENEWER_KEY, key)
    files.write(out / RENEWER_CERTIFICATE, pem)
    files.write(directory / f"renewal-{hub}.pem", pem)
    for papers in (directory / ROUTERS).glob(f"*/{ROUTER_CERTIFICATE}"):
        files.write(papers.parent / f"renewal-{hub}.pem", pem)
    record(directory, pem)
    return out


def refuse_no_hub(file: NetworkFile, hub: str) -> Plan:
    """The Plan of a hub of ours. Raises WrongInput for any other router."""
    plan = reading.plan_without_secrets(file, hub)
    if claims_of(plan).role is not Role.HUB:
        raise WrongInput(hub, "is no hub", "name a router with role: hub")
    return plan


def record(directory: Path, certificate: bytes) -> None:
    """Remember a certificate that this authority signed. Raises Fault."""
    serial = authority.describe(certificate).serial
    files.make_directory(directory / ISSUED, mode=0o700)
    files.write(directory / ISSUED / f"{serial:x}.pem", certificate)


@dataclass(frozen=True, slots=True)
class Authorities:
    """The network's own, that of its foreign routers if it has any, and those below its own by the hub that has one."""

    ours: Pair
    foreign: Pair | None
    renewers: Mapping[str, Pair] = field(default_factory=dict)


def authority_of(file: NetworkFile, directory: Path, unlock: Unlock | None = None) -> Authorities:
    """The authorities with their keys open, in memory; `unlock` is asked once if they are encrypted.

    Raises Fault if `pki init` was not there.
    """
    for name in (CA_CERTIFICATE, CA_KEY):
        if not (directory / name).exists():
            raise Fault(str(directory / name), "missing", "make the certificate authority with `dmvpn pki init`")
    locked = _pair(directory, CA_CERTIFICATE, CA_KEY)
    passphrase = _asked(directory / CA_KEY, locked.key, unlock)
    foreign = _foreign_authority(file, directory, passphrase) if foreign_routers(file) else None
    hubs = {path.parent.name: path.parent for path in (directory / ROUTERS).glob(f"*/{RENEWER_KEY}")}
    renewers = {hub: _pair(papers, RENEWER_CERTIFICATE, RENEWER_KEY) for hub, papers in hubs.items()}
    return Authorities(_opened(locked, passphrase, directory / CA_KEY), foreign, renewers)


def _asked(path: Path, key: bytes, unlock: Unlock | None) -> bytes | None:
    if not keys.is_encrypted(key):
        return None
    if unlock is None:
        raise WrongInput(str(path), "is encrypted, and nobody is here to be asked", "give --passphrase-file FILE")
    return unlock(path).encode()


def _opened(locked: Pair, passphrase: bytes | None, path: Path) -> Pair:
    return locked if passphrase is None else Pair(locked.certificate, keys.opened(locked.key, passphrase, str(path)))


def keep(directory: Path, issuing: Authorities) -> None:
    """Authorities that were made elsewhere, as `authority_of` finds them."""
    files.write_secret(directory / CA_KEY, issuing.ours.key)
    files.write(directory / CA_CERTIFICATE, issuing.ours.certificate)
    if issuing.foreign is not None:
        files.write_secret(directory / FOREIGN_KEY, issuing.foreign.key)
        files.write(directory / FOREIGN_CERTIFICATE, issuing.foreign.certificate)


def own_papers(plan: Plan, ca: Pair, days: int = authority.ROUTER_DAYS) -> Pair:
    """A new key and certificate of one of our routers."""
    claims, now = claims_of(plan), datetime.now(UTC)
    certificate, key = authority.issue(ca.certificate, ca.key, claims, plan.ike.identity, now=now, days=days)
    return _with_key(plan.router, certificate, key)


def foreign_papers(file: NetworkFile, ca: Pair, router: str) -> Pair:
    """A new key and certificate of a foreign router."""
    identity = f"{router}.{file.network.domain}"
    certificate, key = authority.issue_foreign(ca.certificate, ca.key, identity, now=datetime.now(UTC))
    return _with_key(router, certificate, key)


def _with_key(router: str, certificate: bytes, key: bytes | None) -> Pair:
    if key is None:
        raise Fault(router, "no key was made for it")
    return Pair(certificate, key)


def _foreign_authority(file: NetworkFile, directory: Path, passphrase: bytes | None) -> Pair:
    """The CA of the foreign routers; made now if the file had none of them at `pki init`.

    Routers that have their papers already need its certificate too, so it is laid beside what was issued.
    """
    if not (directory / FOREIGN_CERTIFICATE).exists():
        now = datetime.now(UTC)
        pem, key = authority.create_foreign_authority(file.network.network, now=now, passphrase=passphrase)
        files.write_secret(directory / FOREIGN_KEY, key)
        files.write(directory / FOREIGN_CERTIFICATE, pem)
        for papers in (directory / ROUTERS).glob(f"*/{ROUTER_CERTIFICATE}"):
            files.write(papers.parent / FOREIGN_CERTIFICATE, pem)
    locked = _pair(directory, FOREIGN_CERTIFICATE, FOREIGN_KEY)
    encrypted = passphrase if keys.is_encrypted(locked.key) else None
    return _opened(locked, encrypted, directory / FOREIGN_KEY)


def _pair(directory: Path, certificate: str, key: str) -> Pair:
    return Pair(
        files.read(directory / certificate, limit_octets=PEM_LIMIT_OCTETS),
        files.read_private(directory / key, limit_octets=PEM_LIMIT_OCTETS),
    )


def unclaimed(plan: Plan, certificate: bytes) -> tuple[str, ...]:
    """What the router's Plan announces or is, and its certificate does not claim: others will drop that."""
    claims = authority.describe(certificate).claims
    if claims is None:
        return ("it carries no claims at all",)
    wanted = claims_of(plan)
    found = [str(prefix) for prefix in wanted.prefixes if claims.permits_prefix(prefix)]
    found += [str(address) for address in wanted.overlay if claims.permits_binding(address)]
    if wanted.transport != claims.transport:
        found.append(f"transport address {wanted.transport}")
    return tuple(found)
