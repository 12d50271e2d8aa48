"""Who stands by while a change is made and until it is confirmed: `python -m dmvpn.operations.standby NETWORK`.

It goes back when the command that changes something dies, and when the time to confirm is over. It is nobody's child:
not the command's, not the supervisor's, not dmvpnd's. While a change waits there are two; one works and holds a lock,
the other waits for that lock, so that whoever is killed is replaced at once. If all are killed, the deadline is on
disk, and the next start of the router does it.
"""

import fcntl
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dmvpn.commit.deadline import Deadline
from dmvpn.commit.outcome import Undone
from dmvpn.commit.store import Busy
from dmvpn.commit.transaction import Transaction
from dmvpn.errors import Fault
from dmvpn.linux import files, holding, moment, namespaces, terminals
from dmvpn.linux.pace import patience
from dmvpn.operations.here import Here
from dmvpn.operations.transactions import transaction
from dmvpn.render.layout import Layout

START_S = 15.0
END_S = 15.0
CHANGE_LIMIT_S = 900.0  # no change takes that long: whoever holds the lock then was stopped, or hangs
LOOK_S = 0.25
RETRY_S = 5.0
READY = b"ready"


def begin(here: Here) -> None:
    """Have somebody stand by. Returns when he does. Raises Fault."""
    log = _log(here)
    files.make_directory(log.parent)
    ours, theirs = os.pipe()
    with log.open("ab") as output:
        child = subprocess.Popen(
            (sys.executable, "-m", "dmvpn.operations.standby", here.network, str(theirs)),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(theirs,),
            start_new_session=True,
            cwd="/",
        )
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        heard = select.select((pipe,), (), (), patience(START_S))[0] and pipe.read(len(READY))
    with suppress(subprocess.TimeoutExpired):
        child.wait(START_S)  # it forked: what stands by is its child
    if heard != READY:
        raise Fault("standby", "nobody stands by to go back, so nothing was changed", f"see {log}")


def _log(here: Here) -> Path:
    return Path(here.layout.run) / "log" / "standby.log"


def tell(here: Here, undone: Undone) -> str:
    """Say loudly what was taken back: on every terminal here, in the log. Returns the words."""
    words = f"dmvpn: {here.network}: {undone.words}"
    terminals.tell_all(words)
    if namespaces.LAB_VARIABLE not in os.environ:  # /dev/log is the host's there
        terminals.log(words)
    _note(words)
    return words


def _note(words: str) -> None:
    sys.stderr.write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {words}\n")
    sys.stderr.flush()


def await_end(here: Here) -> None:
    """Until nobody stands by any more, where nothing is left to watch. Raises Fault if somebody stays."""
    path = _presence(here)
    if not path.exists():
        return
    until = time.monotonic() + patience(END_S)
    with path.open("rb") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() > until:
                    raise Fault("standby", "somebody stands by still", f"see {_log(here)}, then try again") from error
                time.sleep(LOOK_S)
            else:
                return


def _presence(here: Here) -> Path:
    """A file that everybody who stands by has a shared lock of."""
    return Path(here.layout.run) / "standby.present"


@contextmanager
def _present(here: Here) -> Iterator[None]:
    descriptor = os.open(_presence(here), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _turn(here: Here, word: int) -> Iterator[None]:
    """Only one works; who waits for its turn stands by as well."""
    path = Path(here.layout.run) / "standby.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        with suppress(OSError):  # whoever began us may be dead by now: all the more reason to stand by
            os.write(word, READY)
        os.close(word)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _stand_by(here: Here) -> None:
    """Until nothing is left to watch."""
    standing = transaction(here)
    relieved = False
    while True:
        try:
            undone = standing.attend_to(wait_s=patience(CHANGE_LIMIT_S))
            if undone is not None:
                tell(here, undone)
            deadline = standing.waiting()
        except Busy:
            _end_who_hangs(standing)
            continue
        except Fault as fault:
            _note(str(fault))
            time.sleep(RETRY_S)
            continue
        if deadline is None:
            return
        if not relieved:
            with suppress(Fault):
                begin(here)
                relieved = True
        _wait(standing, deadline)


def _end_who_hangs(standing: Transaction) -> None:
    holder = standing.store.holder()
    if holder is not None and holding.end_holder(holder.pid, standing.places.revisions / "lock"):
        _note(f"ended process {holder.pid} ({holder.who}): it held the lock for more than {CHANGE_LIMIT_S:g} s")


def _wait(standing: Transaction, deadline: Deadline) -> None:
    """Until the time is over, it was confirmed or changed, or a change died half-way."""
    store = standing.store
    while deadline.left_s(moment.now()) > 0:
        time.sleep(min(LOOK_S, max(0.0, deadline.left_s(moment.now()))))
        with suppress(Fault):
            if store.deadline() != deadline or store.journal() is not None:
                return


def main(arguments: list[str]) -> int:
    network, word = arguments
    if os.fork():
        return 0  # so that it is nobody's child
    here = Here(network, Layout(network))
    try:
        with _present(here), _turn(here, int(word)):
            _stand_by(here)
    except OSError as error:
        _note(str(error))
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
