"""What the virtual machine is for: devices, policies and queues that this host's kernel may not have."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dmvpn.lab import vm
from dmvpn.linux import kernel_facts, process

pytestmark = pytest.mark.vm
CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def netns() -> Iterator[str]:
    """A fresh network namespace for each device, with one that stands for a port."""
    name = f"vm-{os.getpid()}"
    process.run(("ip", "netns", "add", name), timeout_s=10)
    process.run(("ip", "link", "add", "d1", "type", "dummy"), netns=name, timeout_s=10)
    yield name
    process.run(("ip", "netns", "delete", name), timeout_s=10)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param("link add gre1 type gre key 1 ttl 64 tos inherit", id="mGRE without local and remote"),
        pytest.param("link add v1 link d1 name v1 type vlan id 10", id="VLAN"),
        pytest.param("link add b1 type bond mode active-backup", id="bonding"),
        pytest.param("link add br1 type bridge", id="bridge"),
        pytest.param("tuntap add t1 mode tap", id="TAP"),
        pytest.param(
            "xfrm state add src 10.0.0.1 dst 10.0.0.2 proto esp spi 1 mode transport "
            "aead rfc4106(gcm(aes)) 0x0102030405060708090a0b0c0d0e0f1011121314 128",
            id="ESP with AES-GCM",
        ),
        pytest.param(
            "xfrm policy add src 10.0.0.0/8 dst 10.0.0.0/8 proto gre key 7 dir out action block", id="policy by GRE key"
        ),
    ],
)
def test_the_kernel_has(words: str, netns: str) -> None:
    process.run(("ip", *words.split()), netns=netns, timeout_s=20)


def test_the_kernel_has_netem(netns: str) -> None:
    argv = ("tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "5ms", "1ms", "loss", "1%", "rate", "10mbit")
    process.run(argv, netns=netns, timeout_s=20)


def test_the_processor_does_aes_for_esp_where_it_can() -> None:
    flags = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    ciphers = Path("/proc/crypto").read_text()
    assert ("driver       : rfc4106-gcm-aesni" in ciphers) == ("aes" in flags.split())


def test_our_own_facts_say_so() -> None:
    found = kernel_facts.facts()
    assert found.gre
    assert found.tun
    assert found.nftables
    assert found.nflog


def test_it_is_another_kernel_and_says_which() -> None:
    assert os.uname().release in os.environ[vm.VARIABLE]


def test_nothing_is_mounted_that_could_write_to_the_host() -> None:
    shared = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    assert [row[1] for row in shared if row[2] in ("9p", "virtiofs") and "ro" not in row[3].split(",")] == []
    root = next(row for row in shared if row[1] == "/")
    assert root[2] == "overlay", "what is written is this machine's own"


def test_the_checkout_is_there_and_its_source_is_a_copy() -> None:
    assert (CHECKOUT / "pyproject.toml").exists()
    mark = CHECKOUT / "src" / "written-in-the-machine"
    mark.write_text("x")
    mark.unlink()
