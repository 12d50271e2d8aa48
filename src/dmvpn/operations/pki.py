"""The network's own certificate authority: one directory beside the network file, and what a router takes from it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path

from dmvpn.errors import Fault, WrongInput
from dmvpn.identity import authority
from dmvpn.identity.claims import Claims, Role
from dmvpn.linux import files
from dmvpn.network.plan import Plan
from dmvpn.network.plan import Role as PlanRole
from dmvpn.operations import reading
from dmvpn.operations.here import ETC, Here
from dmvpn.operations.reading import NetworkFile
from dmvpn.render.layout import Layout

CA_CERTIFICATE, CA_KEY = "ca.pem", "ca.key"
ROUTER_CERTIFICATE, ROUTER_KEY = "router.pem", "router.key"
PEM_LIMIT_OCTETS = 1 << 20


@dataclass(frozen=True, slots=True)
class Issued:
    router: str
    directory: Path
    claims: Claims


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


def init(file: NetworkFile, directory: Path) -> Path:
    """Make the network's CA in `directory`. Raises Fault if there is one: a second CA would lock every router out."""
    certificate = directory / CA_CERTIFICATE
    if certificate.exists() or (directory / CA_KEY).exists():
        raise Fault(str(directory), "has a certificate authority already", "use it with `dmvpn pki issue ROUTER`")
    network = file.network
    pem, key = authority.create_authority(network.network, network.transport, now=datetime.now(UTC))
    files.make_directory(directory, mode=0o700)
    files.write_secret(directory / CA_KEY, key)
    files.write(certificate, pem)
    return certificate


def issue(file: NetworkFile, directory: Path, router: str) -> Issued:
    """A key and certificate for one router, in `directory`/routers/ROUTER: what `pki install` takes on that router."""
    for name in (CA_CERTIFICATE, CA_KEY):
        if not (directory / name).exists():
            raise Fault(str(directory / name), "missing", "make the certificate authority with `dmvpn pki init`")
    plan = reading.plan_of(file, router)
    ca = files.read(directory / CA_CERTIFICATE, limit_octets=PEM_LIMIT_OCTETS)
    files.check_private(directory / CA_KEY)
    ca_key = files.read(directory / CA_KEY, limit_octets=PEM_LIMIT_OCTETS)
    claims = claims_of(plan)
    certificate, key = authority.issue(ca, ca_key, claims, plan.ike.identity, now=datetime.now(UTC))
    if key is None:
        raise Fault(router, "no key was made for it")
    out = directory / "routers" / router
    files.make_directory(out, mode=0o700)
    files.write_secret(out / ROUTER_KEY, key)
    files.write(out / ROUTER_CERTIFICATE, certificate)
    files.write(out / CA_CERTIFICATE, ca)
    return Issued(router, out, claims)


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
        raise WrongInput(str(source / ROUTER_CERTIFICATE), "carries no claims: it is no router's certificate")
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
