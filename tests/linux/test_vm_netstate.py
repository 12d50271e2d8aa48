"""The kernel plane's device and policies in a kernel that has them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dmvpn.errors import Fault
from dmvpn.linux import kernel_facts, netstate

pytestmark = pytest.mark.vm

Run = Callable[..., str]
Put = Callable[..., Path]
GRE = {"name": "acme-blue", "kind": "gre", "key": 1, "ttl": 64, "mtu": 1410, "neighbour_upcalls": True}
TAP = {"name": "acme-blue", "kind": "tap", "mac": "02:00:64:40:00:0b", "mtu": 1372, "neighbour_upcalls": True}
BLOCK = [
    {"direction": "out", "destination": "100.64.0.0/16"},
    {"direction": "in", "source": "100.64.0.0/16"},
    {"direction": "fwd", "destination": "100.64.0.0/16"},
    {"direction": "out", "gre_key": 1},
    {"direction": "in", "gre_key": 1},
]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Writes network.json with one mGRE device and its policies, and changes to its top-level keys."""

    def write(**changes: Any) -> Path:
        document = {
            "version": 1,
            "network": "acme",
            "state": str(tmp_path / "run" / "network.state.json"),
            "devices": [GRE],
            "addresses": [{"device": "acme-blue", "address": "10.255.1.11/24"}],
            "policies": BLOCK,
            **changes,
        }
        path = tmp_path / "network.json"
        path.write_text(json.dumps(document))
        return path

    return write


def everything(ip: Run) -> str:
    return "".join(ip(*arguments) for arguments in (("-d", "link"), ("addr",), ("xfrm", "policy"), ("neigh",)))


def statistic(name: str) -> int:
    rows = dict(line.split() for line in Path("/proc/self/net/xfrm_stat").read_text().splitlines())
    return int(rows[name])


def test_the_kernel_has_what_the_plane_needs() -> None:
    assert (kernel_facts.has_gre(), kernel_facts.has_esp()) == (True, True)


def test_an_mgre_device_asks_us_for_its_neighbours(netns: None, ip: Run, put: Put) -> None:
    netstate.apply(put())
    link = ip("-d", "link", "show", "acme-blue")
    flags = link[link.index("<") + 1 : link.index(">")].split(",")
    assert "NOARP" not in flags
    assert {"MULTICAST", "UP"} <= set(flags)
    for word in ("mtu 1410", "gre remote any local any", "ttl 64", "tos inherit", "key 0.0.0.1"):
        assert word in link, word
    settings = Path("/proc/sys/net/ipv4/neigh/acme-blue")
    values = {name: (settings / name).read_text().strip() for name in ("app_solicit", "mcast_solicit", "ucast_solicit")}
    assert values == {"app_solicit": "1", "mcast_solicit": "0", "ucast_solicit": "0"}


def test_twice_is_once_and_remove_takes_all_away(netns: None, ip: Run, put: Put) -> None:
    before = everything(ip)
    path = put()
    netstate.apply(path)
    once = everything(ip)
    assert once.count("action block") == len(BLOCK)
    netstate.apply(path)
    assert everything(ip) == once
    netstate.remove(path)
    # The module leaves its own device gre0 in every namespace.
    assert [line for line in everything(ip).splitlines() if "acme" in line or "block" in line] == []
    assert before.count("action block") == 0


def test_policies_of_others_stay(netns: None, ip: Run, put: Put) -> None:
    ip("xfrm", "policy", "add", "src", "192.0.2.0/24", "dst", "100.64.0.0/16", "dir", "out", "action", "block")
    netstate.apply(put())
    netstate.apply(put(policies=BLOCK[:1]))
    assert ip("xfrm", "policy").count("action block") == 2
    netstate.remove(put())
    assert ip("xfrm", "policy").count("action block") == 1


@pytest.mark.parametrize(
    ("change", "word"),
    [
        pytest.param({"key": 7}, "key 0.0.0.7", id="key"),
        pytest.param({"ttl": 32}, "ttl 32", id="ttl"),
        pytest.param({"mtu": 1300}, "mtu 1300", id="mtu"),
    ],
)
def test_a_change_leaves_neighbours_where_they_are(
    netns: None, ip: Run, put: Put, change: dict[str, Any], word: str
) -> None:
    netstate.apply(put())
    ip("neigh", "add", "10.255.1.1", "lladdr", "100.64.0.1", "dev", "acme-blue", "nud", "permanent")
    before = ip("-o", "link", "show", "acme-blue").split(":")[0]
    netstate.apply(put(devices=[{**GRE, **change}]))
    link = ip("-d", "link", "show", "acme-blue")
    assert word in link
    assert ("key 0.0.0.1" in link) == ("key" not in change)
    assert "NOARP" not in link
    assert ip("-o", "link", "show", "acme-blue").split(":")[0] == before
    assert "10.255.1.1 lladdr 100.64.0.1 PERMANENT" in ip("neigh", "show", "dev", "acme-blue")


def test_a_router_changes_its_plane(netns: None, ip: Run, put: Put) -> None:
    netstate.apply(put(devices=[TAP], policies=[]))
    assert "tun type tap" in ip("-d", "link", "show", "acme-blue")
    netstate.apply(put())
    assert "gre remote any" in ip("-d", "link", "show", "acme-blue")
    assert "10.255.1.11/24" in ip("addr", "show", "acme-blue")
    netstate.apply(put(devices=[TAP], policies=[]))
    assert "tun type tap" in ip("-d", "link", "show", "acme-blue")
    assert "block" not in ip("xfrm", "policy")


def test_somebody_elses_gre_device_is_left_alone(netns: None, ip: Run, put: Put) -> None:
    ip("link", "add", "acme-blue", "type", "gre", "key", "1", "local", "192.0.2.1", "remote", "192.0.2.2")
    with pytest.raises(Fault, match="exists already and is not ours"):
        netstate.apply(put())
    assert "remote 192.0.2.2" in ip("-d", "link", "show", "acme-blue")


@pytest.fixture
def peer(netns: None, ip: Run) -> Iterator[str]:
    """A second namespace at the other end of a wire: 192.0.2.1 here, 192.0.2.2 there, which has 100.64.0.1 too."""
    name = f"peer{os.getpid()}"
    ip("netns", "add", name)
    try:
        ip("link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", name)
        for prefix, address in (((), "192.0.2.1/24"), (("-n", name), "192.0.2.2/24")):
            ip(*prefix, "addr", "add", address, "dev", "wire")
            ip(*prefix, "link", "set", "wire", "up")
        ip("-n", name, "addr", "add", "100.64.0.1/32", "dev", "wire")
        ip("route", "add", "100.64.0.0/16", "via", "192.0.2.2")
        yield name
    finally:
        ip("netns", "del", name)


# An IPv4 header inside, all zeroes: the kernel reads a key where 12 octets of GRE and payload are there (xfrm_policy.c,
# decode_session4), and the device has nothing to read of a packet that is shorter.
PAYLOAD = bytes(20).hex()
SEND = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_GRE) as gre:
    if sys.argv[3:]:
        gre.bind((sys.argv[3], 0))
    gre.sendto(bytes.fromhex(sys.argv[2]), (sys.argv[1], 0))
"""


@pytest.mark.parametrize(
    ("nbma", "key", "blocked"),
    [
        pytest.param("100.64.0.1", 1, True, id="to a transport address"),
        pytest.param("100.64.0.1", 9, True, id="to a transport address, whatever the key"),
        pytest.param("192.0.2.2", 1, True, id="with the cloud's key, to anybody"),
        pytest.param("192.0.2.2", 9, False, id="somebody else's GRE"),
    ],
)
def test_gre_without_an_sa_does_not_leave(peer: str, ip: Run, put: Put, nbma: str, key: int, *, blocked: bool) -> None:
    netstate.apply(put())
    ip("link", "add", "other", "type", "gre", "key", "9")
    ip("link", "set", "other", "up", "arp", "on")
    device = "acme-blue" if key == 1 else "other"
    ip("route", "replace", "10.255.1.0/24", "dev", device)
    ip("neigh", "add", "10.255.1.1", "lladdr", nbma, "dev", device, "nud", "permanent")
    before = statistic("XfrmOutPolBlock")
    subprocess.run(("ping", "-c", "1", "-W", "1", "10.255.1.1"), check=False, capture_output=True)
    assert (statistic("XfrmOutPolBlock") > before) is blocked


@pytest.mark.parametrize(
    ("source", "key", "blocked"),
    [
        pytest.param("100.64.0.1", "00000009", True, id="from a transport address"),
        pytest.param("192.0.2.2", "00000001", True, id="with the cloud's key, from anybody"),
        pytest.param("192.0.2.2", "00000009", False, id="somebody else's GRE"),
    ],
)
def test_gre_in_clear_does_not_come_in(peer: str, put: Put, source: str, key: str, *, blocked: bool) -> None:
    netstate.apply(put())
    before = statistic("XfrmInPolBlock")
    argv = ("ip", "netns", "exec", peer, sys.executable, "-c", SEND, "192.0.2.1", f"20000800{key}{PAYLOAD}", source)
    subprocess.run(argv, check=True, timeout=60)
    subprocess.run(("ping", "-c", "1", "-W", "5", "192.0.2.2"), check=False, capture_output=True)
    assert (statistic("XfrmInPolBlock") > before) is blocked
