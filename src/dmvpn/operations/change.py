"""Changing this router: plan, apply, rollback, history. The only way configuration reaches a router."""

import getpass
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dmvpn.commit.guard import own_etc
from dmvpn.commit.revision import Message, Revision
from dmvpn.commit.store import Places
from dmvpn.commit.transaction import Outcome, Preview, Transaction
from dmvpn.errors import Fault, WrongInput
from dmvpn.linux import files, namespaces
from dmvpn.linux.services import Supervised
from dmvpn.network.plan import Plan
from dmvpn.operations import host, pki, reading
from dmvpn.operations.here import ETC, Here, find, hostname
from dmvpn.operations.reading import NetworkFile
from dmvpn.render.engines import render_all
from dmvpn.render.layout import Layout
from dmvpn.render.result import File, Rendered

LAB_MARKER = ETC / ".lab"  # a lab puts its name there


@dataclass(frozen=True, slots=True)
class Prepared:
    """A router's part of a file, ready to be shown or applied."""

    file: NetworkFile
    plan: Plan
    rendered: tuple[Rendered, ...]
    here: Here


def render(file: NetworkFile, plan: Plan) -> tuple[Rendered, ...]:
    """All files of one router, the network file itself among them: a rollback brings that back too."""
    own = Rendered("network-file", (File(PurePosixPath("network.yaml"), file.text, 0o600),))
    return (own, *render_all(plan))


def write_out(directory: Path, file: File) -> None:
    """One rendered file below a directory, for reading."""
    target = directory / file.path
    files.make_directory(target.parent)
    files.write(target, file.text, mode=file.mode)


def prepare(path: Path | None, router: str | None, network: str | None = None) -> Prepared:
    """The file to apply and which router of it this machine is. Raises WrongInput if that cannot be told.

    Without a path the file in force is taken; without a router the one of the last apply, else the host's name.
    """
    file, here, plan = _chosen(path, router, network)
    return Prepared(file, plan, render(file, plan), here)


def not_rendered(path: Path | None, router: str | None, network: str | None = None) -> tuple[str, ...]:
    """Sections of the file that nothing renders yet for this router, also if rendering the rest would be refused."""
    return _chosen(path, router, network)[2].not_rendered


def _chosen(path: Path | None, router: str | None, network: str | None) -> tuple[NetworkFile, Here, Plan]:
    file = reading.read(path) if path is not None else _in_force(network)
    named = file.network.network
    here = Here(named, Layout(named))
    chosen = router or here.router() or _by_hostname(file)
    known = here.router()
    if known is not None and router is not None and router != known:
        what = f"this machine is {known} of {named}"
        raise WrongInput(router, what, "apply without --router, or use another machine")
    return file, here, reading.plan_of(file, chosen, reading.planes_here())


def _in_force(network: str | None) -> NetworkFile:
    here = find(network)
    # Secrets are beside the directory of the tree in force, not in it.
    loaded = reading.read(here.network_file)
    return NetworkFile(loaded.name, Path(here.layout.etc), loaded.text, loaded.network, loaded.warnings)


def _by_hostname(file: NetworkFile) -> str:
    name = hostname()
    ours = reading.our_routers(file)
    if name not in ours:
        fix = f"say which with --router: {', '.join(ours) or 'there is none'}"
        raise WrongInput(file.name, f"no router of ours is called {name}, as this machine is", fix)
    return name


def unclaimed(prepared: Prepared) -> str:
    """What others will drop because this router's certificate does not claim it; empty when all is well."""
    certificate = Path(prepared.here.layout.pki) / "router.pem"
    if not certificate.exists():
        return ""
    missing = pki.unclaimed(prepared.plan, files.read(certificate, limit_octets=1 << 20))
    if not missing:
        return ""
    fix = f"make a new one with `dmvpn pki issue {prepared.plan.router}` and take it here with `dmvpn pki install`"
    return f"{certificate} does not claim {', '.join(missing)}: other routers will drop it; {fix}"


def preview(prepared: Prepared) -> Preview:
    """What apply would change; touches nothing."""
    return _transaction(prepared.here).preview(prepared.rendered)


def apply(
    prepared: Prepared,
    why: str,
    *,
    report: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Bring the router where the file wants it, or leave it where it was. Raises Fault.

    `report` hears each step, for a progress line.
    """
    _refuse_to_change()
    host.refuse_if_unfit(prepared.plan, prepared.here, first=_transaction(prepared.here).in_force() is None)
    _check_identity(prepared)
    files.make_directory(Path(prepared.here.layout.etc))
    _bring_secrets(prepared)
    outcome = _transaction(prepared.here, report).apply(prepared.rendered, _message(why))
    files.write(prepared.here.router_file, f"{prepared.plan.router}\n")
    return outcome


def rollback(here: Here, number: int | None, why: str) -> Outcome:
    """Bring an earlier revision back, the one before by default. Raises WrongInput if there is none."""
    transaction = _transaction(here)
    if number is None:
        current = transaction.in_force()
        earlier = [one.number for one in transaction.history() if current is not None and one.number < current]
        if not earlier:
            raise WrongInput("rollback", "there is no earlier revision", "see `dmvpn history`")
        number = max(earlier)
    return transaction.rollback(number, _message(why))


def history(here: Here) -> tuple[tuple[Revision, ...], int | None]:
    transaction = _transaction(here)
    return transaction.history(), transaction.in_force()


def diff(here: Here, one: int, other: int) -> tuple[str, ...]:
    return _transaction(here).diff(one, other)


def start(here: Here) -> int | None:
    """After boot: have the services of the revision in force. Returns its number."""
    return _transaction(here).start()


def stop(here: Here) -> None:
    """Stop all services of the network; its configuration stays."""
    _transaction(here).stop()


def _transaction(here: Here, report: Callable[[str], None] = lambda _: None) -> Transaction:
    layout = here.layout
    return Transaction(
        places=Places(current=Path(layout.current), revisions=Path(layout.revisions)),
        services=Supervised(here.network, Path(layout.run)),
        guard=_refuse_to_change,
        step=report,
    )


def _refuse_to_change() -> None:
    if os.geteuid() != 0:
        raise Fault("apply", "only root may change this router", "run it as root")
    # A process of a lab whose /etc is the host's would make the host a router.
    own_etc(os.environ.get(namespaces.LAB_VARIABLE, ""), LAB_MARKER)()


def _check_identity(prepared: Prepared) -> None:
    pki = Path(prepared.here.layout.pki)
    if not (pki / "router.pem").exists():
        raise Fault(
            str(pki / "router.pem"),
            "this router has no certificate yet",
            f"make one with `dmvpn pki issue {prepared.plan.router}` and take it here with `dmvpn pki install`",
        )


def _bring_secrets(prepared: Prepared) -> None:
    """Keep the secret files that the network file names where the file in force finds them again."""
    target = Path(prepared.here.layout.etc)
    if prepared.file.directory.resolve() == target.resolve():
        return
    for name, content in reading.secrets(prepared.file, prepared.plan.router).items():
        files.make_directory((target / name).parent, mode=0o700)
        files.write_secret(target / name, content)


def _message(why: str) -> Message:
    who = os.environ.get("SUDO_USER") or getpass.getuser()
    return Message(who=who, why=why, when=time.time())
