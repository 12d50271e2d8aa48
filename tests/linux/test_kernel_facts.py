import os
import socket
from pathlib import Path

import pytest

from dmvpn.errors import Fault
from dmvpn.linux import kernel_facts
from dmvpn.linux.kernel_facts import Holder

FAMILIES = [pytest.param(socket.AF_INET, "127.0.0.1", id="IPv4"), pytest.param(socket.AF_INET6, "::1", id="IPv6")]


@pytest.mark.kernel
@pytest.mark.parametrize(("family", "address"), FAMILIES)
def test_who_holds_a_udp_port_is_named(netns: None, family: int, address: str) -> None:
    assert kernel_facts.udp_holders(4500) == ()
    with socket.socket(family, socket.SOCK_DGRAM) as holder:
        holder.bind((address, 4500))
        (found,) = kernel_facts.udp_holders(4500)
        assert kernel_facts.tcp_listeners(4500) == ()
    assert (found.pid, str(found)) == (os.getpid(), f"{found.name} (pid {os.getpid()})")


@pytest.mark.kernel
@pytest.mark.parametrize(("family", "address"), FAMILIES)
def test_who_listens_on_a_tcp_port_is_named(netns: None, family: int, address: str) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as holder:
        holder.bind((address, 1790))
        assert kernel_facts.tcp_listeners(1790) == ()
        holder.listen()
        (found,) = kernel_facts.tcp_listeners(1790)
    assert found.pid == os.getpid()


def test_a_holder_in_another_pid_namespace_cannot_be_named() -> None:
    assert str(Holder(0, "")) == "a process that is not visible here"


@pytest.mark.kernel
def test_running_sees_this_network_namespace_only(netns: None) -> None:
    name = Path("/proc/self/comm").read_text().strip()
    assert kernel_facts.running(frozenset({name})) == (Holder(os.getpid(), name),)


def test_all_missing_programs_are_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kernel_facts, "NEEDED", ((tmp_path / "charon", "strongswan-charon"),))
    monkeypatch.setattr(kernel_facts, "PROGRAMS", (("no-such-vtysh", "frr"), ("no-such-zebra", "frr")))
    with pytest.raises(Fault) as caught:
        kernel_facts.need_programs()
    assert str(caught.value) == (
        "programs: not on this machine: charon, no-such-vtysh, no-such-zebra; apt install strongswan-charon frr"
    )


@pytest.mark.kernel
def test_facts_of_this_machine() -> None:
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    facts = kernel_facts.facts()
    assert facts.capabilities >= frozenset(kernel_facts.INDISPENSABLE)
    assert facts.tun == Path("/dev/net/tun").exists()
    assert facts.aes == (" aes" in Path("/proc/cpuinfo").read_text())


@pytest.mark.kernel
def test_an_absent_netfilter_subsystem_is_seen() -> None:
    if os.geteuid() != 0:
        pytest.skip("nfnetlink needs root")
    assert not kernel_facts._has_netfilter(200 << 8, 0)
