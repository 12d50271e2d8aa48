"""What a machine lacks, or somebody else has: one line says it, and nothing is touched."""

import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import pytest
from vpn_lab import NETWORKS, Vpn, until

from dmvpn.errors import Fault
from dmvpn.lab import lifecycle
from dmvpn.linux import namespaces, process
from dmvpn.linux.process import Result
from dmvpn.network import compile as compiling
from dmvpn.network import loading
from dmvpn.operations import change

pytestmark = pytest.mark.lab

FILE = "/run/trio.yaml"
TEXT = NETWORKS["trio"].read_text()
TRACES = ("/etc/dmvpn/trio", "/var/lib/dmvpn/trio", "/run/dmvpn")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vpn]:
    """Machines with their cables, on which nothing of ours was ever installed."""
    network = loading.load(TEXT, "trio.yaml")
    plans = tuple(compiling.compile_plan(network, router) for router in compiling.routers(network))
    base = tmp_path_factory.mktemp("labs")
    with lifecycle.held(network.lab, plans, name="bare", file="trio.yaml", base=base) as lab:
        for node in lab.routers():
            node.call(partial(Path(FILE).write_text, TEXT))
        yield Vpn(lab)


def _seen(bare: Vpn, router: str) -> tuple[object, ...]:
    """All that an apply could leave behind."""
    commands = (
        ("ip", "rule"),
        ("ip", "-o", "link"),
        ("ip", "-4", "route", "show", "table", "all"),
        ("nft", "list", "tables"),
    )
    found = bare.node(router).call(lambda: [path for path in TRACES if Path(path).exists()])
    return (found, *(bare.run(router, *argv).text for argv in commands))


@contextmanager
def _covered(bare: Vpn, router: str, *places: str) -> Iterator[None]:
    """These directories are empty on this machine."""
    for place in places:
        bare.node(router).call(partial(namespaces.mount, "tmpfs", Path(place), "tmpfs"))
    yield
    for place in places:
        bare.node(router).run(("umount", place))


@contextmanager
def _replaced(bare: Vpn, router: str, *programs: str) -> Iterator[None]:
    """These programs cannot be run on this machine."""
    paths = [process.find(program) for program in programs]
    for path in paths:
        null = partial(namespaces.mount, "/dev/null", Path(path), flags=namespaces.MS_BIND)
        bare.node(router).call(null)
    yield
    for path in paths:
        bare.node(router).run(("umount", path))


@contextmanager
def _running(bare: Vpn, router: str, *argv: str, within: Callable[[], object]) -> Iterator[None]:
    with Path(os.devnull).open("wb") as nothing:
        running = bare.node(router).start(argv, stdout=nothing, stderr=nothing)
    try:
        until(f"{argv[0]} runs", within, within_s=15)
        yield
    finally:
        running.stop()


@contextmanager
def _another_charon(bare: Vpn, router: str) -> Iterator[None]:
    configuration = "charon { load = nonce openssl kernel-netlink socket-default\n }\n"
    bare.write(router, "/etc/strongswan.conf", configuration)
    with _running(bare, router, "/usr/lib/ipsec/charon", within=partial(_holds_udp, bare, router, ":500 ")):
        yield


@contextmanager
def _another_frr(bare: Vpn, router: str) -> Iterator[None]:
    bare.node(router).run(("install", "-d", "-o", "frr", "/run/frr"))
    own = ("-i", "/run/frr/z.pid", "-z", "/run/frr/z.api", "--vty_socket", "/run/frr", "-P", "0")
    serves = ("test", "-S", "/run/frr/z.api")
    argv = ("/usr/lib/frr/zebra", "-f", "/dev/null", *own)
    with _running(bare, router, *argv, within=lambda: bare.run(router, *serves).status == 0):
        yield


@contextmanager
def _another_bgp_speaker(bare: Vpn, router: str) -> Iterator[None]:
    def listens() -> int:
        with socket.create_server(("0.0.0.0", 179)):
            time.sleep(60)
        return 0

    running = bare.node(router).start_function(listens)
    until("it listens", lambda: ":179 " in bare.run(router, "ss", "-Hltn").text, within_s=10)
    yield
    running.stop()


@contextmanager
def _a_device_of_our_name(bare: Vpn, router: str) -> Iterator[None]:
    bare.node(router).run(("ip", "link", "add", "trio-blue", "type", "veth", "peer", "name", "other"))
    yield
    bare.node(router).run(("ip", "link", "del", "trio-blue"))


def _holds_udp(bare: Vpn, router: str, port: str) -> bool:
    return port in bare.run(router, "ss", "-Hlun").text


def _apply(bare: Vpn, router: str, *before: str) -> Result:
    dmvpn = process.find("dmvpn")
    return bare.run(router, *before, dmvpn, "apply", FILE, "--router", router)


TAKEN = [
    pytest.param("par1", _another_charon, r"UDP port 500: in use by charon \(pid \d+\); ", id="another charon"),
    pytest.param("par1", _another_frr, r"this machine: zebra \(pid \d+\) runs here already, ", id="another FRR"),
    pytest.param(
        "hq1", _another_bgp_speaker, r"TCP port 179: in use by \S+ \(pid \d+\); ", id="a BGP speaker at the hub"
    ),
    pytest.param("par1", _a_device_of_our_name, r"trio-blue: there is a device of this name already", id="a device"),
]


@pytest.mark.parametrize(("router", "taken", "said"), TAKEN)
def test_what_somebody_else_has_is_left_alone(
    bare: Vpn, router: str, taken: Callable[[Vpn, str], AbstractContextManager[None]], said: str
) -> None:
    with taken(bare, router):
        before = _seen(bare, router)
        answer = _apply(bare, router)
        assert _seen(bare, router) == before
    _assert_one_line(answer, said)


MISSING = [
    pytest.param(
        lambda bare: _replaced(bare, "par1", "nft", "vtysh"),
        r"programs: not on this machine: vtysh, nft; apt install frr nftables",
        id="programs",
    ),
    pytest.param(
        lambda bare: _covered(bare, "par1", "/usr/lib/ipsec", "/usr/lib/frr"),
        r"programs: not on this machine: charon, .*zebra, bgpd, frr-reload.py; apt install strongswan-charon .*frr",
        id="daemons",
    ),
    pytest.param(
        lambda bare: _covered(bare, "par1", "/dev/net"),
        r"/dev/net/tun: missing: the userspace plane needs it; modprobe tun, or .*--device /dev/net/tun",
        id="the device",
    ),
]


@pytest.mark.parametrize(("lacking", "said"), MISSING)
def test_what_is_missing_is_named_with_its_package(
    bare: Vpn, lacking: Callable[[Vpn], AbstractContextManager[None]], said: str
) -> None:
    before = _seen(bare, "par1")
    with lacking(bare):
        answer = _apply(bare, "par1")
    _assert_one_line(answer, said)
    assert _seen(bare, "par1") == before


@pytest.mark.parametrize("capability", ["net_admin", "net_raw"])
def test_a_missing_capability_is_named(bare: Vpn, capability: str) -> None:
    before = _seen(bare, "par1")
    answer = _apply(bare, "par1", "setpriv", "--bounding-set", f"-{capability}", "--inh-caps", f"-{capability}")
    _assert_one_line(answer, f"capabilities: CAP_{capability.upper()} missing; run as root, or give")
    assert _seen(bare, "par1") == before


def test_only_root_may_apply(bare: Vpn) -> None:
    def as_nobody() -> None:
        os.seteuid(65534)
        change.apply(change.prepare(Path(FILE), "par1"), "")

    before = _seen(bare, "par1")
    with pytest.raises(Fault) as caught:
        bare.node("par1").call(as_nobody)
    assert str(caught.value) == "apply: only root may change this router; run it as root"
    assert _seen(bare, "par1") == before


def test_a_router_without_a_certificate_is_told_how_to_get_one(bare: Vpn) -> None:
    before = _seen(bare, "par1")
    _assert_one_line(
        _apply(bare, "par1"), r"/etc/dmvpn/trio/pki/router.pem: .*no certificate yet; .*dmvpn pki issue par1"
    )
    assert _seen(bare, "par1") == before


def _assert_one_line(answer: Result, said: str) -> None:
    text = answer.stderr.decode()
    assert (answer.status, text.count("\n")) == (1, 1), text
    assert re.match(f"dmvpn: {said}", text), text
