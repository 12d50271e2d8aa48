"""Ports that come and come back, in a namespace of their own."""

from collections.abc import Callable

import pytest

from dmvpn.linux.port_watch import PortWatch


@pytest.mark.usefixtures("netns")
def test_a_port_that_comes_or_comes_back_is_told_once_and_one_that_goes_is_not(ip: Callable[..., str]) -> None:
    ip("link", "add", "eth1", "up", "type", "bridge")
    watch = PortWatch({"eth1", "eth2"})
    try:
        ip("link", "set", "eth1", "mtu", "1400")
        ip("link", "add", "eth3", "type", "bridge")
        assert watch.came() == frozenset()
        ip("link", "delete", "eth1")
        assert watch.came() == frozenset()
        ip("link", "add", "eth1", "type", "bridge")
        ip("link", "add", "eth2", "type", "bridge")
        assert sorted(watch.came()) == ["eth1", "eth2"]
        assert watch.came() == frozenset()
    finally:
        watch.close()


@pytest.mark.usefixtures("netns")
def test_a_port_that_is_switched_off_and_on_has_come_back(ip: Callable[..., str]) -> None:
    ip("link", "add", "eth1", "up", "type", "bridge")
    ip("link", "add", "eth3", "up", "type", "bridge")
    ip("link", "add", "eth2", "type", "bridge")
    watch = PortWatch({"eth1", "eth2"})
    try:
        ip("link", "set", "eth1", "mtu", "1400")
        ip("link", "set", "eth3", "down")
        ip("link", "set", "eth3", "up")
        assert watch.came() == frozenset()
        ip("link", "set", "eth1", "down")
        assert watch.came() == frozenset()
        ip("link", "set", "eth1", "up")
        assert watch.came() == {"eth1"}
        ip("link", "set", "eth1", "down")
        ip("link", "set", "eth1", "up")
        assert watch.came() == {"eth1"}, "in one look too"
        ip("link", "set", "eth2", "up")
        assert watch.came() == {"eth2"}, "off before anybody looked"
        assert watch.came() == frozenset()
    finally:
        watch.close()
