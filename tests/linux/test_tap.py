"""Attaching to TAPs. What a second process meets is in tests/plane/test_life.py."""

from collections.abc import Callable

import pytest

from dmvpn.errors import Fault
from dmvpn.linux import tap as taps

pytestmark = pytest.mark.kernel

Run = Callable[..., str]


def test_frames_go_both_ways_and_none_is_none(tap: str, ip: Run) -> None:
    attached = taps.attach(tap)
    ip("neigh", "replace", "10.255.1.1", "lladdr", "02:00:64:40:00:01", "dev", tap, "nud", "permanent")
    room = memoryview(bytearray(2000))
    while attached.frames.readinto(room) is not None:
        pass  # what IPv6 says when a device comes up
    assert attached.mac().hex(":") == "02:00:64:40:00:0b"
    frame = attached.mac() + bytes.fromhex("020064400001 0800") + bytes(20)
    assert attached.frames.write(frame) == len(frame)
    attached.close()
    assert tap in ip("-o", "link", "show")


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        pytest.param(None, "device tap9: does not exist", id="missing"),
        pytest.param("tuntap add tap9 mode tun", "device tap9: is not a TAP of one queue", id="a TUN"),
        pytest.param(
            "tuntap add tap9 mode tap multi_queue", "device tap9: is not a TAP of one queue", id="many queues"
        ),
        pytest.param("link add tap9 type veth peer name far", "device tap9: is not a TAP of one queue", id="a veth"),
    ],
)
def test_what_cannot_be_attached_to_says_why(netns: None, ip: Run, make: str | None, fault: str) -> None:
    if make:
        ip(*make.split())
    with pytest.raises(Fault) as caught:
        taps.attach("tap9")
    assert str(caught.value).startswith(fault)


def test_a_tap_that_somebody_holds_is_refused(tap: str) -> None:
    first = taps.attach(tap)
    with pytest.raises(Fault, match="another process is attached"):
        taps.attach(tap)
    first.close()
