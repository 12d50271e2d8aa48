"""The network's own certificate authority: one directory beside the network file, and what a router takes from it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dmvpn.errors import Fault, WrongInput
from dmvpn.identity import authority
from dmvpn.identity.claims import Claims, Role
from dmvpn.linux import files
from dmvpn.network.plan import Plan
from dmvpn.network.plan import Role as PlanRole
from dmvpn.operations import reading
from dmvpn.operations.here import ETC
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


def install(source: Path, network: str | None = None) -> Path:
    """Put a router's certificate, key and CA where charon finds them. Returns the directory.

    The network is the one that the certificate names; `network` only has to agree. Raises WrongInput if not.
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
    files.make_directory(ETC / named)
    files.make_directory(target, mode=0o700)
    for name in ("x509", "x509ca", "x509crl", "private"):
        files.make_directory(swanctl / name, mode=0o700)
    files.write_secret(target / ROUTER_KEY, key)
    files.write_secret(swanctl / "private" / ROUTER_KEY, key)
    files.write(target / ROUTER_CERTIFICATE, certificate)
    files.write(target / CA_CERTIFICATE, ca)
    return target
