"""The network's own certificate authority: one directory beside the network file, and what a router takes from it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path

from dmvpn.errors import Fault, WrongInput
from dmvpn.identity import authority
from dmvpn.identity.claims import Claims, Role
from dmvpn.linux import files
from dmvpn.network.places import places
from dmvpn.network.plan import Plan
from dmvpn.network.plan import Role as PlanRole
from dmvpn.operations import reading
from dmvpn.operations.here import ETC, Here
from dmvpn.operations.reading import NetworkFile
from dmvpn.render.layout import Layout

CA_CERTIFICATE, CA_KEY = "ca.pem", "ca.key"
FOREIGN_CERTIFICATE, FOREIGN_KEY = "foreign-ca.pem", "foreign-ca.key"
ROUTER_CERTIFICATE, ROUTER_KEY = "router.pem", "router.key"
ROUTERS = "routers"
PEM_LIMIT_OCTETS = 1 << 20


@dataclass(frozen=True, slots=True)
class Issued:
    """What `issue` made. `claims` is None for a foreign router: the network file has them."""

    router: str
    directory: Path
    claims: Claims | None


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


def init(file: NetworkFile, directory: Path) -> Path:
    """Make the network's CA in `directory`. Raises Fault if there is one: a second CA would lock every router out.

    A network with foreign routers gets their CA as well.
    """
    certificate = directory / CA_CERTIFICATE
    if certificate.exists() or (directory / CA_KEY).exists():
        raise Fault(str(directory), "has a certificate authority already", "use it with `dmvpn pki issue ROUTER`")
    network = file.network
    pem, key = authority.create_authority(network.network, network.transport, now=datetime.now(UTC))
    files.make_directory(directory, mode=0o700)
    files.write_secret(directory / CA_KEY, key)
    files.write(certificate, pem)
    if foreign_routers(file):
        _foreign_authority(file, directory)
    return certificate


def issue(file: NetworkFile, directory: Path, router: str) -> Issued:
    """A key and certificate for one router, in `directory`/routers/ROUTER.

    For a router of ours that is what `pki install` takes there; for a foreign one what its administrator imports.
    """
    for name in (CA_CERTIFICATE, CA_KEY):
        if not (directory / name).exists():
            raise Fault(str(directory / name), "missing", "make the certificate authority with `dmvpn pki init`")
    foreign = _foreign_authority(file, directory) if foreign_routers(file) else None
    out = directory / ROUTERS / router
    if foreign is not None and router in foreign_routers(file):
        claims, own = None, foreign_papers(file, foreign, router)
    else:
        plan = reading.plan_of(file, router)
        claims = claims_of(plan)
        own = own_papers(plan, _pair(directory, CA_CERTIFICATE, CA_KEY))
    files.make_directory(out, mode=0o700)
    files.write_secret(out / ROUTER_KEY, own.key)
    files.write(out / ROUTER_CERTIFICATE, own.certificate)
    files.write(out / CA_CERTIFICATE, files.read(directory / CA_CERTIFICATE, limit_octets=PEM_LIMIT_OCTETS))
    if foreign is not None:
        files.write(out / FOREIGN_CERTIFICATE, foreign.certificate)
    return Issued(router, out, claims)


def own_papers(plan: Plan, ca: Pair) -> Pair:
    """A new key and certificate of one of our routers."""
    claims = claims_of(plan)
    certificate, key = authority.issue(ca.certificate, ca.key, claims, plan.ike.identity, now=datetime.now(UTC))
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


def _foreign_authority(file: NetworkFile, directory: Path) -> Pair:
    """The CA of the foreign routers; made now if the file had none of them at `pki init`.

    Routers that have their papers already need its certificate too, so it is laid beside what was issued.
    """
    if not (directory / FOREIGN_CERTIFICATE).exists():
        pem, key = authority.create_foreign_authority(file.network.network, now=datetime.now(UTC))
        files.write_secret(directory / FOREIGN_KEY, key)
        files.write(directory / FOREIGN_CERTIFICATE, pem)
        for papers in (directory / ROUTERS).glob(f"*/{ROUTER_CERTIFICATE}"):
            files.write(papers.parent / FOREIGN_CERTIFICATE, pem)
    return _pair(directory, FOREIGN_CERTIFICATE, FOREIGN_KEY)


def _pair(directory: Path, certificate: str, key: str) -> Pair:
    files.check_private(directory / key)
    return Pair(
        files.read(directory / certificate, limit_octets=PEM_LIMIT_OCTETS),
        files.read(directory / key, limit_octets=PEM_LIMIT_OCTETS),
    )


class Papers(Enum):
    """What `install` does with papers of another router or authority than those in place."""

    KEEP = "refuse the new ones"
    REPLACE = "take the new ones"


def install(source: Path, network: str | None = None, others: Papers = Papers.KEEP) -> Path:
    """Put a router's certificate, key and CA where charon finds them. Returns the directory.

    The network is the one that the certificate names; `network` only has to agree. Raises WrongInput if it does not,
    and for papers of another router or of another authority than those in place.
    """
    certificate = files.read(source / ROUTER_CERTIFICATE, limit_octets=PEM_LIMIT_OCTETS)
    described = authority.describe(certificate)
    if described.claims is None:
        raise WrongInput(
            str(source / ROUTER_CERTIFICATE),
            "carries no claims: it is not the certificate of one of our routers",
            "a foreign router's papers are imported by its own means",
        )
    named = described.claims.network
    if network is not None and network != named:
        raise WrongInput(str(source), f"is for network {named}, not {network}")
    layout = Layout(named)
    target = Path(layout.pki)
    swanctl = target / "swanctl"
    key = files.read(source / ROUTER_KEY, limit_octets=PEM_LIMIT_OCTETS)
    ca = files.read(source / CA_CERTIFICATE, limit_octets=PEM_LIMIT_OCTETS)
    if others is Papers.KEEP:
        _refuse_others(source, target, Here(named, layout).router(), described.claims.router, ca)
    files.make_directory(ETC / named)
    files.make_directory(target, mode=0o700)
    for name in ("x509", "x509ca", "x509crl", "private"):
        files.make_directory(swanctl / name, mode=0o700)
    files.write_secret(target / ROUTER_KEY, key)
    files.write_secret(swanctl / "private" / ROUTER_KEY, key)
    files.write(target / ROUTER_CERTIFICATE, certificate)
    files.write(target / CA_CERTIFICATE, ca)
    foreign = source / FOREIGN_CERTIFICATE
    if foreign.exists():
        files.write(target / FOREIGN_CERTIFICATE, files.read(foreign, limit_octets=PEM_LIMIT_OCTETS))
    return target


def _refuse_others(source: Path, target: Path, here: str | None, named: str, ca: bytes) -> None:
    fix = "take the right directory, or say --replace"
    if here is not None and here != named:
        raise WrongInput(str(source), f"is for router {named}, and this machine is {here}", fix)
    kept = target / CA_CERTIFICATE
    if kept.exists() and files.read(kept, limit_octets=PEM_LIMIT_OCTETS) != ca:
        raise WrongInput(str(source), f"is of another certificate authority than {kept}", fix)


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
