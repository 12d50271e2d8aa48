"""Papers of this router: its key and certificate, and the authorities it trusts, where charon finds them."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from dmvpn.daemon import control
from dmvpn.daemon import papers as kept
from dmvpn.daemon.papers import Pair
from dmvpn.errors import Fault, WrongInput
from dmvpn.identity import authority, keys, requests, revocation
from dmvpn.identity.authority import Description
from dmvpn.identity.chain import Chain, to_der
from dmvpn.identity.der import Malformed
from dmvpn.identity.revocation import RevocationList
from dmvpn.linux import files
from dmvpn.operations.here import ETC, Here, find
from dmvpn.operations.pki import (
    CA_CERTIFICATE,
    CRL,
    FOREIGN_CERTIFICATE,
    FOREIGN_CRL,
    PEM_LIMIT_OCTETS,
    RENEWER_CERTIFICATE,
    RENEWER_KEY,
    ROUTER_CERTIFICATE,
    ROUTER_KEY,
)
from dmvpn.render.layout import Layout

REQUEST_KEY = kept.REQUEST_KEY
RENEWERS = "renewal-*.pem"
RENEW_LIMIT_S = 60.0


class Papers(Enum):
    """What `install` does with papers of another router or authority than those in place."""

    KEEP = "refuse the new ones"
    REPLACE = "take the new ones"


def request_here(network: str | None, identity: str | None) -> bytes:
    """As `request`, for the network that is configured here. Without an identity it is as the certificate has it."""
    if network is None or identity is None:
        network = find(network).network
    return request(network, identity or _identity(network))


def _identity(network: str) -> str:
    path = Path(Layout(network).pki) / ROUTER_CERTIFICATE
    if not path.exists():
        raise Fault(str(path), "missing: this router has no certificate yet", "say its name with --identity")
    return authority.describe(files.read(path, limit_octets=PEM_LIMIT_OCTETS)).names[0]


def request(network: str, identity: str) -> bytes:
    """A signing request (PEM) for a key that stays on this router: the same one until papers for it are installed.

    Raises WrongInput for a name that no certificate carries.
    """
    requests.create_request(identity, keys.key_pem(keys.new_key()))  # refuses the name before anything is made
    here = kept.Papers(Path(Layout(network).pki))
    files.make_directory(ETC / network)
    files.make_directory(here.pki, mode=0o700)
    return requests.create_request(identity, here.pending_key())[0]


def install(source: Path, network: str | None = None, others: Papers = Papers.KEEP) -> Path:
    """Put a router's certificate, key and CA where charon finds them. Returns the directory.

    Without a key in `source` the one of `request` is taken. The network is the one that the certificate names;
    `network` only has to agree. Raises WrongInput if it does not, for papers of another router or of another authority
    than those in place, and for a certificate that is not valid by this machine's clock. A dmvpnd that runs has charon
    take them at once; SAs stay.
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
    refuse_untimely(str(source / ROUTER_CERTIFICATE), described, datetime.now(UTC))
    layout = Layout(named)
    here = kept.Papers(Path(layout.pki))
    ca = files.read(source / CA_CERTIFICATE, limit_octets=PEM_LIMIT_OCTETS)
    key = _key_for(certificate, source, here.pki)
    authority.refuse_other_key(certificate, key)
    chain = Chain(ca, renewers_in(source))
    _refuse_unvouched(certificate, chain)
    lists = _lists_in(source, chain)
    if others is Papers.KEEP:
        _refuse_others(source, here.pki, Here(named, layout).router(), described.claims.router, ca)
    files.make_directory(ETC / named)
    here.make_directories()
    files.write(here.pki / CA_CERTIFICATE, ca)
    foreign = source / FOREIGN_CERTIFICATE
    if foreign.exists():
        files.write(here.pki / FOREIGN_CERTIFICATE, files.read(foreign, limit_octets=PEM_LIMIT_OCTETS))
    _take_renewers(source, here)
    here.swap(Pair(certificate, key))
    for one in lists:
        if _newer(one, here) is None:
            here.keep_list(one)
    _tell_daemon(layout)
    return here.pki


def renewers_in(source: Path) -> Iterator[x509.Certificate]:
    """What says that it is a renewal authority: beside papers of `pki issue`, or where a router keeps them."""
    for path in (*sorted(source.glob(RENEWERS)), *sorted((source / "swanctl" / "x509ca").glob(RENEWERS))):
        yield authority.certificate_in(files.read(path, limit_octets=PEM_LIMIT_OCTETS))


def _refuse_unvouched(certificate: bytes, chain: Chain) -> None:
    try:
        chain.vouch(to_der(certificate))
    except Malformed as fault:
        what = f"another authority issued it: {fault.what}"
        raise WrongInput("certificate", what, "take both from one place, with the renewal-*.pem there") from fault


def refuse_untimely(where: str, described: Description, now: datetime) -> None:
    """Raises WrongInput for a certificate that this machine's clock has not reached, or has passed."""
    clock = f"this machine's clock says {now:%Y-%m-%d %H:%M} UTC"
    if now < described.not_before:
        what = f"is not valid before {described.not_before:%Y-%m-%d %H:%M} UTC, and {clock}"
        raise WrongInput(where, what, "the clock is too early: set it, then install again")
    if now >= described.not_after:
        what = f"expired on {described.not_after:%Y-%m-%d %H:%M} UTC, and {clock}"
        raise WrongInput(where, what, "set the clock if it is wrong, or make new papers with `dmvpn pki renew ROUTER`")


def _take_renewers(source: Path, here: kept.Papers) -> None:
    chain = here.chain()
    for one in renewers_in(source):
        if chain.add_renewer(one):
            here.keep_renewer(one.public_bytes(Encoding.PEM))
    if (source / RENEWER_KEY).exists():
        certificate = files.read(source / RENEWER_CERTIFICATE, limit_octets=PEM_LIMIT_OCTETS)
        key = files.read(source / RENEWER_KEY, limit_octets=PEM_LIMIT_OCTETS)
        authority.refuse_unlike(certificate, key, files.read(here.pki / CA_CERTIFICATE))
        files.write_secret(here.pki / RENEWER_KEY, key)
        files.write(here.pki / RENEWER_CERTIFICATE, certificate)


def _key_for(certificate: bytes, source: Path, target: Path) -> bytes:
    """The key beside the certificate, or one that this router made itself and keeps. Raises WrongInput."""
    if (source / ROUTER_KEY).exists():
        return files.read(source / ROUTER_KEY, limit_octets=PEM_LIMIT_OCTETS)
    wanted = authority.public_key_in(certificate)
    for own in (target / kept.REQUEST_KEY, target / ROUTER_KEY):
        if own.exists():
            key = files.read_private(own, limit_octets=PEM_LIMIT_OCTETS)
            if keys.public_key_of(key, str(own)) == wanted:
                return key
    what = "has no key, and its certificate is for none that this router made"
    raise WrongInput(str(source), what, "sign the request that this router prints with `dmvpn pki request`")


def _refuse_others(source: Path, target: Path, here: str | None, named: str, ca: bytes) -> None:
    fix = "take the right directory, or say --replace"
    if here is not None and here != named:
        raise WrongInput(str(source), f"is for router {named}, and this machine is {here}", fix)
    in_place = target / CA_CERTIFICATE
    if in_place.exists() and files.read(in_place, limit_octets=PEM_LIMIT_OCTETS) != ca:
        raise WrongInput(str(source), f"is of another certificate authority than {in_place}", fix)


# ---------------------------------------------------------------- revocation lists


def install_list(source: Path, network: str | None = None) -> tuple[int, int]:
    """Take a revocation list here; a dmvpnd that runs tells every other router. Its number, and how many it names.

    Raises WrongInput for one that no authority of ours signed, and for one that is older than what is here.
    """
    layout = find(network).layout
    here = kept.Papers(Path(layout.pki))
    found = _read_list(source, here.signers(here.chain()))
    newer = _newer(found, here)
    if newer is not None:
        what = f"is list {found.number}, and this router has {newer.number} already"
        raise WrongInput(str(source), what, "take the newest of `dmvpn pki publish`")
    here.keep_list(found)
    _tell_daemon(layout)
    return found.number, len(found.entries)


def _lists_in(source: Path, chain: Chain) -> tuple[RevocationList, ...]:
    """Those beside papers, held against the authorities there."""
    signers = kept.Papers(source).signers(chain)
    return tuple(_read_list(source / name, signers) for name in (CRL, FOREIGN_CRL) if (source / name).exists())


def _read_list(path: Path, signers: tuple[x509.Certificate, ...]) -> RevocationList:
    return revocation.read(files.read(path, limit_octets=2 * revocation.LIST_LIMIT_OCTETS), signers, str(path))


def _newer(found: RevocationList, here: kept.Papers) -> RevocationList | None:
    """What this router has of the same authority, if that is newer: papers may have lain for a while."""
    known = here.lists(here.signers(here.chain()))[0]
    return next((one for one in known if one.issuer == found.issuer and one.number > found.number), None)


# ---------------------------------------------------------------- the daemon


def renew_here(network: str | None = None) -> str:
    """Have this router's dmvpnd renew its certificate now. Until when it is good. Raises Fault if nobody renews it."""
    layout = find(network).layout
    answer = control.ask(Path(layout.control_socket), {"ask": "renew-own"}, timeout_s=RENEW_LIMIT_S)
    return str(answer["until"])[:10]


def _tell_daemon(layout: Layout) -> None:
    """One that does not run reads the files when it starts."""
    path = Path(layout.control_socket)
    if path.exists():
        with _unless_absent():
            control.ask(path, {"ask": "papers-changed"}, timeout_s=RENEW_LIMIT_S)


@contextmanager
def _unless_absent() -> Iterator[None]:
    try:
        yield
    except Fault as fault:
        if "not running" not in fault.what and "not connected" not in fault.what:
            raise
