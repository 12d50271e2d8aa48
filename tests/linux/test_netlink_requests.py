"""What the kernel cannot do for want of room is a Fault, as is a refusal: dmvpnd goes on."""

import errno
import os
from collections.abc import Callable

import pytest

from dmvpn.errors import Fault
from dmvpn.linux.netlink import NetlinkRefusal, Request, Requests

VERBS: dict[str, Callable[[Requests], object]] = {
    "ask": lambda requests: requests.ask("tap0", 1, 0, b""),
    "ask_all": lambda requests: requests.ask_all("tap0", [Request(lambda: "one of them", 1, 0, b"")]),
    "dump": lambda requests: requests.dump("tap0", 1, b""),
}


class Kernel:
    """A netlink socket that fails."""

    def __init__(self, sending: OSError | None = None, receiving: OSError | None = None) -> None:
        self._sending, self._receiving = sending, receiving

    def settimeout(self, limit_s: float) -> None: ...

    def setsockopt(self, level: int, option: int, value: int) -> None: ...

    def send(self, octets: bytes) -> int:
        if self._sending is not None:
            raise self._sending
        return len(octets)

    def recv(self, limit: int) -> bytes:
        assert self._receiving is not None
        raise self._receiving


def full() -> OSError:
    return OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))


@pytest.mark.parametrize(
    ("kernel", "fault"),
    [
        pytest.param(Kernel(sending=full()), "tap0: the kernel cannot be asked: No buffer space available", id="send"),
        pytest.param(
            Kernel(receiving=full()), "tap0: the kernel's answer is lost: No buffer space available", id="recv"
        ),
        pytest.param(Kernel(receiving=TimeoutError()), "tap0: the kernel did not answer within 5 s", id="no answer"),
    ],
)
@pytest.mark.parametrize("verb", VERBS)
def test_a_socket_that_fails_is_a_fault(kernel: Kernel, fault: str, verb: str) -> None:
    requests = Requests(kernel)  # type: ignore[arg-type]
    with pytest.raises(Fault) as caught:
        VERBS[verb](requests)
    assert str(caught.value) == fault
    assert not isinstance(caught.value, NetlinkRefusal)
