"""dmvpnd's log: what one turn of the loop has to say is written in one go, with the time worked out once a second.

A hub that meets a thousand clients at once writes a line for each; a system call and a call of strftime(3) for every
one of them took a tenth of a registration, and so did a LogRecord for each: one record may hold a turn's lines.
"""

import asyncio
import logging
import time
from typing import TextIO

FORMAT = "%(asctime)s %(name)s: %(message)s"


class Lines(logging.Formatter):
    """As logging's own, `2026-01-31 12:00:00,123 name: message`; a message of several lines has that before each."""

    def __init__(self) -> None:
        super().__init__(FORMAT)
        self._second = -1
        self._text = ""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        second = int(record.created)
        if second != self._second:
            self._second, self._text = second, time.strftime(datefmt or "%Y-%m-%d %H:%M:%S", time.localtime(second))
        return f"{self._text},{record.msecs:03.0f}"

    def formatMessage(self, record: logging.LogRecord) -> str:
        head = f"{record.asctime} {record.name}: "
        return head + record.message.replace("\n", f"\n{head}")


class Gathered(logging.StreamHandler[TextIO]):
    """Lines of the loop's own thread are flushed at the end of its turn; all others, and warnings, at once."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(Lines())
        self._waiting: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._waiting.append(self.format(record) + self.terminator)
            if record.levelno >= logging.WARNING:
                self.flush()
            elif len(self._waiting) == 1:
                asyncio.get_running_loop().call_soon(self.flush)
        except RuntimeError:  # no loop here
            self.flush()
        except Exception:  # noqa: BLE001 - as every handler of logging's: what cannot be told must not end the daemon
            self.handleError(record)

    def flush(self) -> None:
        self.acquire()
        try:
            lines, self._waiting = self._waiting, []
            if lines:
                self.stream.write("".join(lines))
            super().flush()
        finally:
            self.release()


def open_log(level: int) -> None:
    """For the whole process. What no line shows need not be found out for each (logging's HOWTO, "Optimization")."""
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # that HOWTO's own words: nobody's place in the code is looked up
    logging.basicConfig(level=level, handlers=[Gathered()])
