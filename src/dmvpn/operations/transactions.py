"""The transaction of one network on this router: where its revisions are, who keeps its services, who may change it."""

import getpass
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from dmvpn.commit.guard import own_etc
from dmvpn.commit.revision import Message
from dmvpn.commit.store import Places, Step
from dmvpn.commit.transaction import Transaction, handed_over, nothing, unattended, unverified
from dmvpn.errors import Fault
from dmvpn.linux import namespaces
from dmvpn.linux.services import Services
from dmvpn.operations import keeping
from dmvpn.operations.here import ETC, Here

LAB_MARKER = ETC / ".lab"  # a lab puts its name there


def transaction(
    here: Here,
    *,
    step: Step = nothing,
    attend: Callable[[], None] = unattended,
    verify: Callable[[], Callable[[], None]] = unverified,
    services: Services | None = None,
) -> Transaction:
    """`services` are others than those of whoever keeps them, and then stay with him."""
    layout = here.layout
    return Transaction(
        places=Places(current=Path(layout.current), revisions=Path(layout.revisions)),
        services=services or keeping.Present(here),
        guard=refuse_to_change,
        step=step,
        attend=attend,
        hand_over=partial(keeping.hand_over, here) if services is None else handed_over,
        verify=verify,
    )


def refuse_to_change() -> None:
    """Raises Fault for who is not root, and for a process of a lab whose /etc is the host's."""
    if os.geteuid() != 0:
        raise Fault("apply", "only root may change this router", "run it as root")
    # A process of a lab whose /etc is the host's would make the host a router.
    own_etc(os.environ.get(namespaces.LAB_VARIABLE, ""), LAB_MARKER)()


def author() -> str:
    return os.environ.get("SUDO_USER") or getpass.getuser()


def message(why: str) -> Message:
    return Message(who=author(), why=why, when=time.time())
