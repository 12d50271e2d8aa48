"""rp_filter is loosened where something is strict, and otherwise left alone."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dmvpn.linux.sysctl import sysctl_holds, sysctl_value

RP_FILTER = "net.ipv4.conf.all.rp_filter"
Run = Callable[..., str]


def write(device: str, value: str) -> None:
    Path(f"/proc/sys/net/ipv4/conf/{device}/rp_filter").write_text(value)


@pytest.fixture
def nowhere(netns: None, ip: Run) -> None:
    ip("link", "add", "wan", "type", "veth", "peer", "name", "far")
    for device in ("all", "default", "lo", "wan", "far"):
        write(device, "0")


@pytest.mark.kernel
@pytest.mark.parametrize("strict", ["all", "default", "wan"])
def test_it_is_wanted_where_something_is_strict(nowhere: None, strict: str) -> None:
    assert sysctl_holds(RP_FILTER, "2")
    write(strict, "1")
    assert not sysctl_holds(RP_FILTER, "2")
    write("all", "2")
    assert sysctl_holds(RP_FILTER, "2")


@pytest.mark.kernel
def test_any_other_setting_is_as_wanted_or_is_not(nowhere: None) -> None:
    now = sysctl_value("net.ipv4.ip_forward")
    assert now is not None
    assert sysctl_holds("net.ipv4.ip_forward", now)
    assert not sysctl_holds("net.ipv4.ip_forward", str(1 - int(now)))
    assert not sysctl_holds("net.ipv4.no_such_setting", "1")
