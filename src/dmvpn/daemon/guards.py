"""The fail-closed rules, kept there: whoever flushes or changes our table, the supervisor puts it back.

One writer: the supervisor loads the file, as at `apply`, and queues us behind an apply under way. Its own loads are no
damage, since what counts is whether the table is as the file in force makes it.
"""

import asyncio
import contextlib
import logging
from collections import deque
from pathlib import Path

from dmvpn.daemon.control import RulesRow
from dmvpn.errors import Fault
from dmvpn.linux import ruleset
from dmvpn.linux.nft_watch import TableWatch
from dmvpn.linux.services import Supervised

log = logging.getLogger("dmvpnd.guards")

GATHER_S = 0.02  # `flush` and what the same script loads after it may come as two changes
BURST = 5  # so often in WINDOW_S at once; somebody who goes on fights, and then we do not fight as fast as he can
WINDOW_S = 60.0
CONTESTED_S = 10.0
FAILED_AGAIN_S = 2.0


class RuleGuard:
    """Watches one table from `open` until `close`; `run` mends."""

    def __init__(self, network: str, rules: Path, run: Path) -> None:
        """`rules` is the file in force, `run` the supervisor's directory."""
        self._table = f"dmvpn_{network}"
        self._unit = f"dmvpn-{network}-nftables"
        self._rules = rules
        self._services = Supervised(network, run)
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._watch: TableWatch | None = None
        self._by = ""
        self._damaged_at: float | None = None
        self._mended: deque[float] = deque(maxlen=BURST)
        self._expected: tuple[bytes, str] = (b"", "")  # a file's octets, and the listing they make
        self._count = 0
        self._last: tuple[float, float, str] | None = None  # when it was mended, how long it was not there, by whom
        self._trouble = ""

    def open(self) -> None:
        """Raises Fault or OSError if the kernel will not tell."""
        self._watch = TableWatch(self._table)
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
        changed = self._watch.read() if self._watch is not None else None
        if changed is not None:
            self._by = changed.by or self._by
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
                    log.warning("table %s cannot be put back: %s", self._table, fault)
                self._trouble = str(fault)
                pause_s = FAILED_AGAIN_S

    async def _look(self, began: float, by: str) -> float | None:
        """Compare, and mend what differs; how long to wait before the next look, None: until somebody tells."""
        if await asyncio.to_thread(self._is_whole):
            self._damaged_at = None
            return None
        if self._damaged_at is None:
            self._damaged_at = began
            log.warning("table %s was changed%s", self._table, f" by {by}" if by else "")
        if self._is_contested(self._loop.time()):
            wait_s = self._mended[-1] + CONTESTED_S - self._loop.time()
            if wait_s > 0:
                return wait_s
        await asyncio.to_thread(self._services.reload, self._unit)
        now = self._loop.time()
        missing_s, self._damaged_at = now - self._damaged_at, None
        self._mended.append(now)
        self._count += 1
        self._last = (now, missing_s, by)
        log.warning("table %s put back after %.2f s, the %d. time", self._table, missing_s, self._count)
        return None

    def _is_contested(self, now: float) -> bool:
        return len(self._mended) == BURST and now - self._mended[0] < WINDOW_S

    def _is_whole(self) -> bool:
        return ruleset.listing(self._table) == self._wanted()

    def _wanted(self) -> str:
        octets = _octets(self._rules)
        if octets != self._expected[0]:
            self._expected = (octets, ruleset.listing_of_file(self._rules, self._table))
        return self._expected[1]


def _octets(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Fault(str(path), error.strerror or str(error), "run `dmvpn apply`") from error
