"""Joining: from an invitation to a router that has reached its hub. All is checked before anything is touched."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dmvpn.errors import Fault, WrongInput
from dmvpn.identity import authority, bundle, revocation
from dmvpn.identity.bundle import Contents, Head, Sealed
from dmvpn.identity.claims import check_name
from dmvpn.identity.locks import KeyLock
from dmvpn.linux import files
from dmvpn.linux.machine import machine_code
from dmvpn.network.comparison import adopting
from dmvpn.network.compile import compile_plan, routers
from dmvpn.operations import change, papers, pki, reading
from dmvpn.operations.arrival import Arrival, await_hub
from dmvpn.operations.change import Prepared
from dmvpn.operations.here import Here
from dmvpn.render.layout import Layout

JOINED = "joined.json"  # beside the revisions: with which invitation this router came in
JOINED_LIMIT_OCTETS = 4096
__all__ = ["Contents", "Joined", "Ready", "Sealed"]

RUN = Path("/run")
Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Ready:
    """A join that can happen: all of it was looked at, and nothing touched."""

    head: Head
    contents: Contents
    prepared: Prepared
    digest: str
    joined_at: datetime | None  # with this very bundle; then there is nothing to do


@dataclass(frozen=True, slots=True)
class Joined:
    """What a join did. `revision` is in force."""

    router: str
    network: str
    revision: int
    changed: bool


def read(path: Path) -> Sealed:
    """A bundle as far as it can be told without its passphrase, and whether it is for here and now.

    Raises WrongInput: damaged, of a newer program, expired or from the future, for another machine or router.
    """
    sealed = bundle.read(files.read(path, limit_octets=bundle.LARGEST_OCTETS + 1), str(path))
    _refuse_elsewhere(sealed)
    if _joined_at(sealed) is None:
        bundle.refuse_untimely(sealed.head, sealed.name, datetime.now(UTC))
    return sealed


def _refuse_elsewhere(sealed: Sealed) -> None:
    head = sealed.head
    if head.machine is not None and head.machine != machine_code():
        what = f"is for the machine {head.machine}, and this one is {machine_code()}"
        raise WrongInput(sealed.name, what, "invite this one with: dmvpn invite --machine")
    known = Here(head.network, Layout(head.network)).router()
    if known is not None and known != head.router:
        what = f"is for router {head.router}, and this machine is {known} of {head.network}"
        raise WrongInput(sealed.name, what, "join on another machine")


def _joined_at(sealed: Sealed) -> datetime | None:
    """When this machine joined with this very bundle."""
    layout = Layout(sealed.head.network)
    path = Path(layout.state) / JOINED
    if not path.exists() or not Here(sealed.head.network, layout).in_force:
        return None
    try:
        told = json.loads(files.read_text(path, limit_octets=JOINED_LIMIT_OCTETS))
        return datetime.fromisoformat(told["at"]) if told["bundle"] == sealed.digest else None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Fault(str(path), "cannot be read", "remove it, then join again") from error


def is_answer(sealed: Sealed) -> bool:
    """Whether this machine's own key opens it, and no passphrase: the answer to its request."""
    return isinstance(sealed.lock, KeyLock)


def own_key(sealed: Sealed) -> bytes:
    """The key for which the answer was made: that of the request, or after joining the router's own.

    Raises WrongInput for a machine that never asked.
    """
    directory = Path(Layout(sealed.head.network).pki)
    for name in (papers.REQUEST_KEY, pki.ROUTER_KEY):
        if (directory / name).exists():
            return files.read_private(directory / name, limit_octets=pki.PEM_LIMIT_OCTETS)
    what = "answers a request, and this machine has made none"
    raise WrongInput(sealed.name, what, "begin with: dmvpn join --request ROUTER.DOMAIN --network NETWORK")


def look(sealed: Sealed, contents: Contents, anchor: str | None = None) -> Ready:
    """Hold the parts of an opened bundle against each other and against this machine. Touches nothing.

    Raises WrongInput for what the bundle is, and for another trust anchor than `anchor` (its SHA-256, if given); Fault
    for what this machine lacks.
    """
    _refuse_anchor(sealed, contents, anchor)
    head, here = sealed.head, Here(sealed.head.network, Layout(sealed.head.network))
    name = f"{sealed.name}: network file"
    loaded = reading.from_text(contents.network_file, name, Path(here.layout.etc))
    if loaded.network.network != head.network or head.router not in routers(loaded.network):
        raise WrongInput(name, f"has no router {head.router} of {head.network}", "ask for a new invitation")
    secrets = {path: secret.rstrip(b"\r\n") for path, secret in contents.secrets}
    plan = compile_plan(loaded.network, head.router, planes=reading.planes_here(), secrets=secrets)
    _check_papers(sealed, contents, here)
    missing = pki.unclaimed(plan, contents.certificate)
    if missing:
        what = f"its certificate does not claim {', '.join(missing)}"
        raise WrongInput(sealed.name, what, "invite the router anew, with the file as it is now")
    prepared = change.prepared(loaded, plan, here)
    joined_at = _joined_at(sealed)
    if joined_at is None:
        change.refuse_if_unfit(prepared)
    return Ready(head, contents, prepared, sealed.digest, joined_at)


def _refuse_anchor(sealed: Sealed, contents: Contents, anchor: str | None) -> None:
    found = authority.describe(contents.ca).sha256
    if anchor is not None and anchor.replace(":", "").lower() != found:
        raise WrongInput(sealed.name, f"has the trust anchor {found}", "compare both with who made it: do not join")


def _check_papers(sealed: Sealed, contents: Contents, here: Here) -> None:
    described = authority.describe(contents.certificate)
    claims = described.claims
    if claims is None or (claims.network, claims.router) != (sealed.head.network, sealed.head.router):
        raise WrongInput(sealed.name, "its certificate is another router's", "ask for a new invitation")
    authority.refuse_unlike(contents.certificate, contents.key, contents.ca)
    kept = Path(here.layout.pki) / pki.CA_CERTIFICATE
    if kept.exists() and files.read(kept, limit_octets=pki.PEM_LIMIT_OCTETS) != contents.ca:
        what = f"is of another certificate authority than {kept}"
        raise WrongInput(sealed.name, what, "this machine is in a network of that name already: leave that first")
    _check_list(sealed, contents.crl, contents.ca)
    _check_list(sealed, contents.foreign_crl, contents.foreign_ca)


def _check_list(sealed: Sealed, octets: bytes | None, signer: bytes | None) -> None:
    """A network that never published one has none."""
    if octets is not None:
        signers = () if signer is None else (authority.certificate_in(signer),)
        revocation.read(octets, signers, f"{sealed.name}: revocation list")


def join(ready: Ready, report: Report = lambda _step: None) -> Joined:
    """Install the papers and bring the router into force; if anything fails, both are as they were. Raises Fault."""
    head, here = ready.head, ready.prepared.here
    if ready.joined_at is not None:
        number = change.history(here).in_force
        return Joined(head.router, head.network, number or 0, changed=False)
    with _all_or_nothing(Path(here.layout.etc)), _all_or_nothing(Path(here.layout.state)):
        report("papers")
        with _laid_out(ready.contents) as source:
            papers.install(source, head.network)
        for name, secret in ready.contents.secrets:
            files.make_directory((Path(here.layout.etc) / name).parent, mode=0o700)
            files.write_secret(Path(here.layout.etc) / name, secret)
        # It counts once a revision is in force, so whoever dies in between joins anew; never later, when these papers
        # would come back over renewed ones.
        told = {"bundle": ready.digest, "at": datetime.now(UTC).isoformat(timespec="seconds"), "router": head.router}
        files.make_directory(Path(here.layout.state))
        files.write(Path(here.layout.state) / JOINED, json.dumps(told) + "\n", mode=0o600)
        why = f"joined with the bundle of {head.issued:%Y-%m-%d %H:%M} UTC"
        outcome = change.apply(ready.prepared, why, report=report)
    return Joined(head.router, head.network, outcome.revision, changed=True)


def request(network: str, identity: str) -> str:
    """A signing request for a key that stays here, PEM. Raises WrongInput as `refuse_request` does."""
    refuse_request(network, identity)
    return papers.request(network, identity).decode()


def refuse_request(network: str, identity: str) -> None:
    """Raises WrongInput for names that no certificate carries, and where this machine is a router already."""
    check_name("network", network)
    known = Here(network, Layout(network)).router()
    if known is not None:
        raise WrongInput(identity, f"this machine is {known} of {network} already", "renew with: dmvpn pki request")
    check_name("identity", identity)


def request_key(network: str) -> Path:
    """Where the key of a request waits for its answer."""
    check_name("network", network)
    return Path(Layout(network).pki) / papers.REQUEST_KEY


def machine() -> str:
    """This machine's code, to which an invitation can be bound."""
    return machine_code()


@contextmanager
def _laid_out(contents: Contents) -> Iterator[Path]:
    """The papers as `pki install` takes them, in memory (/run) and for nobody else's eyes."""
    directory = Path(tempfile.mkdtemp(prefix=".dmvpn-join-", dir=RUN))
    try:
        files.write_secret(directory / pki.ROUTER_KEY, contents.key)
        files.write(directory / pki.ROUTER_CERTIFICATE, contents.certificate)
        files.write(directory / pki.CA_CERTIFICATE, contents.ca)
        if contents.foreign_ca is not None:
            files.write(directory / pki.FOREIGN_CERTIFICATE, contents.foreign_ca)
        for name, octets in ((pki.CRL, contents.crl), (pki.FOREIGN_CRL, contents.foreign_crl)):
            if octets is not None:
                files.write(directory / name, octets)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _all_or_nothing(etc: Path) -> Iterator[None]:
    """What the block writes below a directory of this network stays only if the block ends well.

    What was there before the first revision is put back; revisions are the change transaction's affair.
    """
    existed = etc.exists()
    kept = _copies(etc)
    try:
        yield
    except BaseException:
        with suppress(Fault):
            _put_back(etc, kept, existed=existed)
        raise


def _copies(etc: Path) -> dict[Path, tuple[bytes, int]]:
    return {path: (files.read(path), path.stat().st_mode & 0o777) for path in _files(etc)}


def _files(etc: Path) -> list[Path]:
    """Below a directory, without what links lead to."""
    found = (Path(parent) / name for parent, _, names in os.walk(etc) if "revisions" not in parent for name in names)
    return [path for path in found if not path.is_symlink()]


def _put_back(etc: Path, kept: dict[Path, tuple[bytes, int]], *, existed: bool) -> None:
    if not existed:
        files.remove_tree(etc)
        return
    for path in _files(etc):
        if path not in kept:
            files.remove(path)
    for path, (content, mode) in kept.items():
        files.write(path, content, mode=mode)


def preview(ready: Ready) -> tuple[str, ...]:
    """What a join would do, in a few lines."""
    plan = ready.prepared.plan
    hubs = ", ".join(dict.fromkeys(hub.router for cloud in plan.clouds for hub in cloud.hubs))
    count = sum(len(part.files) for part in ready.prepared.rendered)
    return (
        f"transport address {plan.transport}, hubs {hubs or 'none'}",
        f"{count} files in {ready.prepared.here.layout.etc}",
        f"trust anchor {authority.describe(ready.contents.ca).sha256}",
        *adopting(plan),
        *skipped(ready),
    )


def skipped(ready: Ready) -> tuple[str, ...]:
    """What the file says of this router and no engine renders, on one line; nothing if there is nothing."""
    names = ", ".join(ready.prepared.plan.not_rendered)
    return (f"accepted, but nothing renders it yet: {names}",) if names else ()


def arrive(ready: Ready, *, since: float, within_s: float) -> Arrival:
    """Wait for a hub; see `await_hub`."""
    return await_hub(ready.prepared.here, ready.prepared.plan, since=since, within_s=within_s)
