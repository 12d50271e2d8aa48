"""dmvpnd's log: a turn's lines in one go, warnings and other threads' lines at once, each as logging would write it."""

import asyncio
import io
import logging
import threading

import pytest

from dmvpn.daemon.logbook import FORMAT, Gathered, Lines


class _Counted(io.StringIO):
    """A stream that counts how often it was written to."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0

    def write(self, text: str) -> int:
        self.writes += 1
        return super().write(text)


@pytest.fixture
def stream() -> _Counted:
    return _Counted()


@pytest.fixture
def log(stream: _Counted) -> logging.Logger:
    handler = Gathered()
    handler.setStream(stream)
    log = logging.Logger("dmvpnd.test", logging.INFO)
    log.addHandler(handler)
    return log


def test_a_turns_lines_are_one_write_at_its_end(log: logging.Logger, stream: _Counted) -> None:
    async def turn() -> None:
        for number in range(3):
            log.info("client %d", number)
        assert stream.getvalue() == ""
        await asyncio.sleep(0)

    asyncio.run(turn())
    assert [line.rsplit(": ", 1)[1] for line in stream.getvalue().splitlines()] == ["client 0", "client 1", "client 2"]
    assert stream.writes == 1


def test_a_warning_waits_for_nobody_and_keeps_the_order(log: logging.Logger, stream: _Counted) -> None:
    async def turn() -> None:
        log.info("before")
        log.warning("now")
        assert [line.rsplit(": ", 1)[1] for line in stream.getvalue().splitlines()] == ["before", "now"]

    asyncio.run(turn())


def test_a_record_of_several_lines_has_time_and_name_before_each(log: logging.Logger, stream: _Counted) -> None:
    """A turn's lines come as one record; and what a peer says cannot look like a line of its own."""
    log.info("one\ntwo")
    first, second = stream.getvalue().splitlines()
    assert first.removesuffix("one") == second.removesuffix("two")
    assert first.endswith(" dmvpnd.test: one")


def test_outside_a_loop_each_line_is_written_at_once(log: logging.Logger, stream: _Counted) -> None:
    log.info("no loop yet")
    assert "no loop yet" in stream.getvalue()

    async def turn() -> None:
        log.info("the loop's")
        thread = threading.Thread(target=log.info, args=("vici's",))
        thread.start()
        await asyncio.to_thread(thread.join)

    asyncio.run(turn())
    assert [line.rsplit(": ", 1)[1] for line in stream.getvalue().splitlines()][1:] == ["the loop's", "vici's"]


def test_a_line_is_that_of_the_same_format_in_logging() -> None:
    ours, theirs = Lines(), logging.Formatter(FORMAT)
    for moment in (0.0, 1.0005, 1.9994, 86_399.25, 86_400.0):
        record = logging.LogRecord("dmvpnd", logging.INFO, "", 0, "said %s", ("so",), None)
        record.created, record.msecs = moment, (moment - int(moment)) * 1000
        assert ours.format(record) == theirs.format(record)
