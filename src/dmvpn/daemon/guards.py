"""The fail-closed rules and policies, kept there: whoever flushes or changes them, they are put back.

What counts is whether the kernel has what the file in force makes, so loads of our own are no damage. The table has one
writer: the supervisor loads the file, as at `apply`, and queues us behind an apply under way. Policies are put back
here, since the supervisor would reload all of the kernel's state, and somebody may have moved an address meanwhile.
"""

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from dmvpn.daemon.control import RulesRow
from dmvpn.errors import Fault
from dmvpn.linux import keepers, policy_watch, ruleset
from dmvpn.linux.nft_watch import TableWatch
from dmvpn.linux.policy_watch import PolicyWatch
from dmvpn.linux.services import Services

log = logging.getLogger("dmvpnd.guards")

POLICY = b"chain policy_filter_in"  # as the file begins it, where there is a zone policy
GATHER_S = 0.02  # `flush` and what the same script loads after it may come as two changes
BURST = 5  # so often in WINDOW_S at once; somebody who goes on fights, and then we do not fight as fast as he can
WINDOW_S = 60.0
CONTESTED_S = 10.0
FAILED_AGAIN_S = 2.0


class Watch(Protocol):
    """Changes of one thing in the kernel. `read` never blocks: by whom, empty if nobody says; None: no change."""

    def fileno(self) -> int: ...
    def close(self) -> None: ...
    def read(self) -> str | None: ...


class Guard(ABC):
    """Watches one thing in the kernel from `open` until `close`; `run` mends."""

    def __init__(self, what: str, table: str = "") -> None:
        """`what` is its name in the log; `table` where it is an nftables table."""
        self._what = what
        self._table = table
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._watch: Watch | None = None
        self._by = ""
        self._damaged_at: float | None = None
        self._mended: deque[float] = deque(maxlen=BURST)
        self._count = 0
        self._last: tuple[float, float, str] | None = None  # when it was mended, how long it was not there, by whom
        self._trouble = ""

    @abstractmethod
    def _watched(self) -> Watch:
        """Raises Fault or OSError if the kernel will not tell."""

    @abstractmethod
    def _is_whole(self) -> bool:
        """Called in a thread, as is `_mend`. Both raise Fault."""

    @abstractmethod
    def _mend(self) -> None: ...

    def open(self) -> None:
        """Raises Fault or OSError if the kernel will not tell."""
        self._watch = self._watched()
        self._loop.add_reader(self._watch.fileno(), self._told)
        self._wake.set()  # what happened before us

    def close(self) -> None:
        if self._watch is not None:
            self._loop.remove_reader(self._watch.fileno())
            self._watch.close()
            self._watch = None

    def view(self) -> RulesRow:
        now = self._loop.time()
        last_at, missing_s, by = self._last or (None, None, "")
        return RulesRow(
            table=self._table,
            mended=self._count,
            last_s=None if last_at is None else now - last_at,
            missing_s=missing_s,
            by=by,
            contested=self._is_contested(now),
            damaged_s=None if self._damaged_at is None else now - self._damaged_at,
            trouble=self._trouble,
        )

    def _told(self) -> None:
        by = self._watch.read() if self._watch is not None else None
        if by is not None:
            self._by = by or self._by
            self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        pause_s: float | None = None
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), pause_s)
            await asyncio.sleep(GATHER_S)
            self._wake.clear()
            began = self._loop.time() - GATHER_S
            by, self._by = self._by, ""
            try:
                pause_s = await self._look(began, by)
                self._trouble = ""
            except Fault as fault:
                if str(fault) != self._trouble:
                    log.warning("%s cannot be put back: %s", self._what, fault)
                self._trouble = str(fault)
                pause_s = FAILED_AGAIN_S

    async def _look(self, began: float, by: str) -> float | None:
        """Compare, and mend what differs; how long to wait before the next look, None: until somebody tells."""
        if await asyncio.to_thread(self._is_whole):
            self._damaged_at = None
            return None
        if self._damaged_at is None:
            self._damaged_at = began
            log.warning("%s changed%s", self._what, f" by {by}" if by else "")
        if self._is_contested(self._loop.time()):
            wait_s = self._mended[-1] + CONTESTED_S - self._loop.time()
            if wait_s > 0:
                return wait_s
        await asyncio.to_thread(self._mend)
        now = self._loop.time()
        missing_s, self._damaged_at = now - self._damaged_at, None
        self._mended.append(now)
        self._count += 1
        self._last = (now, missing_s, by)
        log.warning("%s put back after %.2f s, the %d. time", self._what, missing_s, self._count)
        return None

    def _is_contested(self, now: float) -> bool:
        return len(self._mended) == BURST and now - self._mended[0] < WINDOW_S


class RuleGuard(Guard):
    """The network's nftables table."""

    def __init__(self, network: str, rules: Path, run: Path) -> None:
        """`rules` is the file in force, `run` the supervisor's directory."""
        self._name = f"dmvpn_{network}"
        super().__init__(f"table {self._name}", self._name)
        self._unit = f"dmvpn-{network}-nftables"
        self._rules = rules
        self._services: Services = keepers.of_this_process(network, run)
        self._expected: tuple[bytes, str] = (b"", "")  # a file's octets, and the listing they make

    def view(self) -> RulesRow:
        return replace(super().view(), filters=POLICY in self._expected[0])

    def _watched(self) -> Watch:
        return TableWatch(self._name)

    def _is_whole(self) -> bool:
        return ruleset.listing(self._name) == self._wanted()

    def _mend(self) -> None:
        self._services.reload(self._unit)

    def _wanted(self) -> str:
        octets = _octets(self._rules)
        if octets != self._expected[0]:
            self._expected = (octets, ruleset.listing_of_file(self._rules, self._name))
        return self._expected[1]


class PolicyGuard(Guard):
    """The XFRM policies that block GRE in clear on the kernel plane."""

    def __init__(self, network_file: Path) -> None:
        """`network_file` is the network.json in force."""
        super().__init__("blocking XFRM policies")
        self._file = network_file

    def _watched(self) -> Watch:
        return PolicyWatch()

    def _is_whole(self) -> bool:
        return policy_watch.are_whole(self._file)

    def _mend(self) -> None:
        policy_watch.put_back(self._file)


def _octets(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Fault(str(path), error.strerror or str(error), "run `dmvpn apply`") from error
