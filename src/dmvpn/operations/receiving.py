"""On a router: what `push` sent, shown or applied, by the same transaction as `apply`."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dmvpn.errors import WrongInput
from dmvpn.linux import files
from dmvpn.network.slice import slice_secrets
from dmvpn.operations import change, here, reading
from dmvpn.operations.change import Prepared
from dmvpn.operations.delivery import WHERE, Delivery, Order

RUN = Path("/run")  # in memory


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the router answers. `revision` is in force now; `confirm_s`: so long, unless it is confirmed.

    Of a preview, `changes` are an operator's sentences, and `revision` is what is in force before.
    """

    router: str
    revision: int | None
    would_change: bool
    changes: tuple[str, ...] = ()
    drifted: tuple[PurePosixPath, ...] = ()
    confirm_s: float | None = None
    warnings: tuple[str, ...] = ()


def receive(delivery: Delivery) -> Receipt:
    """Do what the delivery orders. Raises WrongInput for one that is not for this router; Fault as apply does."""
    if delivery.network not in here.networks():
        what = f"is for {delivery.network}, and this machine is not in that network"
        raise WrongInput(WHERE, what, "let it join first: dmvpn invite, dmvpn join")
    with _laid_out(delivery) as path:
        prepared = change.prepare(path, delivery.router, delivery.network)
        if delivery.order is Order.PREVIEW:
            return _preview(prepared)
        outcome = change.apply(prepared, delivery.why, confirm_within_s=delivery.confirm_within_s)
        return Receipt(
            delivery.router,
            outcome.revision,
            outcome.changed,
            confirm_s=outcome.confirm_s,
            warnings=tuple(outcome.warnings),
        )


def _preview(prepared: Prepared) -> Receipt:
    change.refuse_if_unfit(prepared)
    view = change.preview(prepared)
    cut = (f"this would cut the session it came by ({view.outlook.cuts_ssh})",) if view.outlook.cuts_ssh else ()
    return Receipt(
        prepared.plan.router,
        view.preview.in_force,
        not view.preview.difference.nothing,
        (*view.outlook.changes, *view.outlook.effects, *cut),
        view.preview.drifted,
    )


@contextmanager
def _laid_out(delivery: Delivery) -> Iterator[Path]:
    """The network file and its secrets as they lay at the sender's, for nobody else's eyes, in memory."""
    loaded = reading.from_text(delivery.text, WHERE, RUN)
    if loaded.network.network != delivery.network:
        raise WrongInput(WHERE, f"is called {delivery.network}, and its file is of {loaded.network.network}")
    wanted = set(slice_secrets(loaded.network, delivery.router))
    if wanted != delivery.secrets.keys():
        brought, named = (", ".join(sorted(names)) or "none" for names in (delivery.secrets, wanted))
        raise WrongInput(WHERE, f"brings secrets {brought}; its file names {named}")
    with tempfile.TemporaryDirectory(prefix=".dmvpn-push-", dir=RUN) as name:
        directory = Path(name)
        # The model lets no such path leave its directory.
        for path, octets in delivery.secrets.items():
            files.make_directory((directory / path).parent, mode=0o700)
            files.write_secret(directory / path, octets)
        target = directory / "network.yaml"
        files.write(target, delivery.text, mode=0o600)
        yield target
