"""Changing this router: plan, apply, confirm, rollback, history. The only way configuration reaches a router."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

from dmvpn.commit import checking
from dmvpn.commit.deadline import Deadline
from dmvpn.commit.difference import anew
from dmvpn.commit.outcome import Edited, Edits, Outcome, Preview, Undone
from dmvpn.commit.revision import Revision, units_of
from dmvpn.commit.transaction import Transaction
from dmvpn.errors import Fault, WrongInput
from dmvpn.linux import files, moment, ssh_session
from dmvpn.linux.diskless import Machine
from dmvpn.network.plan import Plan
from dmvpn.operations import host, keeping, learned, neighbours, pki, reading, standby
from dmvpn.operations.here import BESIDE, STATE, Here, find, hostname
from dmvpn.operations.keeping import Keeper
from dmvpn.operations.outlook import NETWORK_FILE, ROUTER_FILE, Outlook, outlook, plan_of
from dmvpn.operations.reading import NetworkFile
from dmvpn.operations.transactions import author, message, refuse_to_change, transaction
from dmvpn.operations.verification import verification
from dmvpn.render.engines import render_all
from dmvpn.render.frr import learned_unit
from dmvpn.render.layout import Layout
from dmvpn.render.result import File, Rendered

__all__ = ["Edits", "Outcome"]

NOT_KEPT = "the change is in force, but a reboot will lose it: "


@dataclass(frozen=True, slots=True)
class Prepared:
    """A router's part of a file, ready to be shown or applied."""

    file: NetworkFile
    plan: Plan
    rendered: tuple[Rendered, ...]
    here: Here
    keeper: Keeper


def render(file: NetworkFile, plan: Plan, keeper: Keeper = Keeper.SUPERVISOR) -> tuple[Rendered, ...]:
    """All files of one router, the network file itself among them: a rollback brings that back too.

    `keeper` is who shall keep the services there: its files are among them.
    """
    own = (File(NETWORK_FILE, file.text, 0o600), File(ROUTER_FILE, f"{plan.router}\n"))
    parts = (Rendered("network-file", own), *render_all(plan))
    return (*parts, *keeping.rendered(plan.network, keeper, units_of(parts)))


def with_secrets(prepared: Prepared) -> tuple[Rendered, ...]:
    """The secret files that the network file names go into the revision, so that a rollback has those of its time."""
    own, *others = prepared.rendered
    found = []
    for name, content in reading.secrets(prepared.file, prepared.plan.router).items():
        path = PurePosixPath(name)
        if path.is_absolute():
            continue  # it stays where it is
        try:
            found.append(File(BESIDE / path, content.decode(), files.SECRET_MODE))
        except UnicodeDecodeError as error:
            raise WrongInput(name, "is no text", "write the secret as UTF-8") from error
    return (replace(own, files=(*own.files, *found)), *others)


def write_out(directory: Path, file: File) -> None:
    """One rendered file below a directory, for reading."""
    target = directory / file.path
    files.make_directory(target.parent)
    files.write(target, file.text, mode=file.mode)


def prepared(file: NetworkFile, plan: Plan, here: Here, services: Keeper | None = None) -> Prepared:
    """`services` is who shall keep them; None: as before, or the machine's own. Raises Fault if that is not here."""
    keeper = keeping.chosen(here, services)
    return Prepared(file, plan, render(file, plan, keeper), here, keeper)


def prepare(
    path: Path | None, router: str | None, network: str | None = None, services: Keeper | None = None
) -> Prepared:
    """What chosen() finds, rendered."""
    file, here, plan = chosen(path, router, network)
    return prepared(file, plan, here, services)


def chosen(path: Path | None, router: str | None, network: str | None) -> tuple[NetworkFile, Here, Plan]:
    """The file to apply and which router of it this machine is. Raises WrongInput if that cannot be told.

    Without a path the file in force is taken; without a router the one of the last apply, else the host's name.
    """
    file = reading.read(path) if path is not None else reading.in_force(find(network))
    named = file.network.network
    here = Here(named, Layout(named))
    name = router or here.router() or _by_hostname(file)
    known = here.router()
    if known is not None and router is not None and router != known:
        what = f"this machine is {known} of {named}"
        raise WrongInput(router, what, "apply without --router, or use another machine")
    return file, here, reading.plan_of(file, name, reading.planes_here())


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
    fix = f"make new papers with `dmvpn pki renew {prepared.plan.router}` and take them here with `dmvpn pki install`"
    return f"{certificate} does not claim {', '.join(missing)}: other routers will drop it; {fix}"


@dataclass(frozen=True, slots=True)
class View:
    """What apply would do: in sentences, then as files."""

    outlook: Outlook
    preview: Preview


def lacking(prepared: Prepared) -> tuple[str, ...]:
    """What this machine's daemons cannot do of it, in the words in which apply refuses it."""
    return tuple(checking.lacking(check for part in prepared.rendered for check in part.checks))


def preview(prepared: Prepared) -> View:
    """What apply would change; touches nothing. What a hub learned by itself is no change and no drift."""
    found = transaction(prepared.here).preview(with_secrets(prepared))
    if found.in_force is not None and keeping.moves(prepared.here, prepared.keeper):
        found = replace(found, difference=anew(found.difference, units_of(prepared.rendered)))
    edited = learned.edited(prepared.here)
    if edited is not None:
        found = replace(found, drifted=(*found.drifted, PurePosixPath(edited)))
    return View(outlook(found.old, prepared.plan, found.difference), found)


def apply(
    prepared: Prepared,
    why: str,
    *,
    confirm_within_s: float | None = None,
    edits: Edits = Edits.REFUSE,
    report: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Bring the router where the file wants it, or leave it where it was. Raises Fault.

    With `confirm_within_s` it goes back by itself unless confirm() is called in time. `report` hears each step.
    """
    refuse_if_unfit(prepared)
    _check_identity(prepared)
    here, rendered = prepared.here, with_secrets(prepared)
    if confirm_within_s is None:
        _refuse_to_cut("apply", lambda: preview(prepared).outlook.cuts_ssh)
    files.make_directory(Path(here.layout.etc))
    changing = _changing(here, prepared.plan, report)
    outcome = _beside_learned(
        here,
        edits,
        lambda: changing.apply(rendered, message(why), confirm_within_s=confirm_within_s, edits=edits),
    )
    return _kept(outcome)


def _beside_learned(here: Here, edits: Edits, change: Callable[[], Outcome]) -> Outcome:
    """A change, where somebody may have edited what bgpd was brought to: no part of a revision, but no less his."""
    edited = learned.edited(here)
    if edited is None:
        return change()
    path = PurePosixPath(edited)
    found = transaction(here)
    if edits is Edits.REFUSE:
        raise Edited((*found.drift(), path))
    text = files.read_text(Path(edited))
    outcome = change()
    directory = outcome.kept or found.store.place_of_edits(outcome.previous or outcome.revision)
    files.make_directory(directory / "run", mode=0o700)
    files.create(directory / "run" / path.name, text, mode=files.SECRET_MODE)
    services, unit = keeping.of(here), learned_unit(here.network)
    if any(row.name == unit for row in services.status()):
        services.reload(unit)
    else:  # no hub any more
        files.remove(Path(edited))
    return replace(outcome, kept=directory, drifted=(*outcome.drifted, path))


def _changing(here: Here, plan: Plan, report: Callable[[str], None]) -> Transaction:
    return transaction(here, step=report, attend=partial(standby.begin, here), verify=verification(here, plan))


def _kept(outcome: Outcome) -> Outcome:
    """What waits to be confirmed is not kept: a reboot is then one more way back."""
    if not outcome.changed or outcome.confirm_s is not None:
        return outcome
    return replace(outcome, warnings=keep_over_reboot())


def keep_over_reboot() -> tuple[str, ...]:
    """On an Alpine in RAM, have it written to the medium. What is worth a warning."""
    machine = Machine()
    trouble = machine.keep((STATE,)) if machine.is_diskless() else ""
    return (NOT_KEPT + trouble,) if trouble else ()


def _refuse_to_cut(verb: str, look: Callable[[], str]) -> None:
    """`look` tells through what his session goes, if the change cuts it. Raises WrongInput."""
    if ssh_session.own_session() is None:
        return
    cut = look()
    if cut:
        what = f"this change cuts your own SSH session ({cut})"
        raise WrongInput(verb, what, "add --confirm 5m: it then comes back by itself unless you confirm")


def _cut_by_going_back(here: Here, written: tuple[Rendered, ...], plan: Plan | None) -> str:
    if plan is None:
        return "perhaps: this program cannot read its file any more"
    found = transaction(here).preview(written)
    return outlook(found.old, plan, found.difference).cuts_ssh


def refuse_if_unfit(prepared: Prepared) -> None:
    """Raises Fault for a machine that cannot be this router, before anything is touched."""
    refuse_to_change()
    first = transaction(prepared.here).in_force() is None
    host.refuse_if_unfit(prepared.plan, prepared.here, prepared.file.name, first=first, keeper=prepared.keeper)


def confirm(here: Here) -> tuple[Deadline, tuple[str, ...]]:
    """What is in force stays. Returns the deadline that this met, and what is worth a warning.

    Raises WrongInput if nothing waits, and says what became of a change that waited.
    """
    ended = transaction(here).confirm(author())
    if ended is None:
        undone = last_undone(here)
        what = f"revision {undone.number} was rolled back, {undone.undone}" if undone else "no change waits for it"
        raise WrongInput("confirm", what, "see `dmvpn history`")
    return ended, keep_over_reboot()


def rollback(
    here: Here,
    number: int | None,
    why: str,
    *,
    confirm_within_s: float | None = None,
    edits: Edits = Edits.REFUSE,
) -> Outcome | Undone:
    """Bring an earlier revision back, the one before by default. Raises WrongInput if there is none.

    A change that waits to be confirmed is taken back, whatever that cuts: it would be by itself. With a number only to
    where it came from.
    """
    standing = transaction(here)
    waiting = standing.waiting()
    if waiting is not None and number in (None, waiting.before):
        undone = standing.undo(f"{author()} took it back before it was confirmed")
        if undone is not None:
            return undone
    if number is None:
        number = _before(standing)
    written = standing.store.load(number).written
    plan = plan_of(written)
    if confirm_within_s is None:
        _refuse_to_cut("rollback", lambda: _cut_by_going_back(here, written, plan))
    changing = standing if plan is None else _changing(here, plan, lambda _: None)
    return _kept(
        _beside_learned(
            here,
            edits,
            lambda: changing.rollback(number, message(why), confirm_within_s=confirm_within_s, edits=edits),
        )
    )


def _before(standing: Transaction) -> int:
    current = standing.in_force()
    earlier = [
        one.number for one in standing.history() if current is not None and one.number < current and not one.undone
    ]
    if not earlier:
        raise WrongInput("rollback", "there is no earlier revision", "see `dmvpn history`")
    return max(earlier)


@dataclass(frozen=True, slots=True)
class History:
    """The revisions, oldest first; which is in force; how many seconds are left to confirm it, if it waits."""

    revisions: tuple[Revision, ...]
    in_force: int | None
    confirm_s: float | None


def history(here: Here) -> History:
    standing = transaction(here)
    waiting = standing.waiting()
    left_s = None if waiting is None else max(0.0, waiting.left_s(moment.now()))
    return History(standing.history(), standing.in_force(), left_s)


@dataclass(frozen=True, slots=True)
class Standing:
    """How this router's configuration is: what waits, what was taken back last, what was edited by hand."""

    in_force: int | None
    confirm_s: float | None
    undone: Revision | None
    drifted: tuple[PurePosixPath, ...]


def standing(here: Here) -> Standing | None:
    """For `status`; None to those who may not read the revisions."""
    found = transaction(here)
    try:
        waiting = found.waiting()
        left_s = None if waiting is None else max(0.0, waiting.left_s(moment.now()))
        edited = learned.edited(here)
        drifted = (*found.drift(), *(() if edited is None else (PurePosixPath(edited),)))
        return Standing(found.in_force(), left_s, last_undone(here), drifted)
    except Fault:
        return None


def last_undone(here: Here) -> Revision | None:
    """The newest revision, if it was taken back."""
    revisions = transaction(here).history()
    return revisions[-1] if revisions and revisions[-1].undone else None


def diff(here: Here, one: int | None, other: int | None) -> tuple[str, ...]:
    """Between two revisions; from one to what is in force; with none, what was edited by hand in that."""
    found = transaction(here)
    in_force = found.in_force()
    if in_force is None and other is None:
        raise WrongInput("diff", "nothing is in force", "see `dmvpn history`")
    if one is None:
        return (*found.edits(), *learned.edits(here, here.router() or ""))
    return found.diff(one, other if other is not None else in_force or 0)


def start(here: Here) -> tuple[int | None, str]:
    """After boot: have the services of the revision in force. Its number, and words about what was taken back."""
    neighbours.refuse_start(here)
    number, undone = transaction(here, attend=partial(standby.begin, here)).start()
    return number, "" if undone is None else standby.tell(here, undone)


def at_boot(here: Here) -> tuple[int | None, str]:
    """Before init starts the services: finish or take back a change that the machine went down in."""
    number, undone = transaction(here, attend=partial(standby.begin, here), services=keeping.at_boot(here)).start()
    return number, "" if undone is None else standby.tell(here, undone)


def stop(here: Here) -> Undone | None:
    """Stop all services of the network; its configuration stays, but for a change that waits to be confirmed.

    That is taken back, and returned; nothing is started for it. Returns when nobody stands by any more. Raises Fault.
    """
    undone = transaction(here).stop(f"{author()} stopped the network before it was confirmed")
    standby.await_end(here)
    return undone


def _check_identity(prepared: Prepared) -> None:
    pki = Path(prepared.here.layout.pki)
    if not (pki / "router.pem").exists():
        raise Fault(
            str(pki / "router.pem"),
            "this router has no certificate yet",
            f"make one with `dmvpn pki issue {prepared.plan.router}` and take it here with `dmvpn pki install`",
        )
