"""dhcpcd as it is rendered, against a real server of addresses and router advertisements."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rendered_unit import RenderedUnit

from dmvpn.network.compile import compile_plan
from dmvpn.network.loading import load
from dmvpn.render import dhcpcd
from dmvpn.render.layout import Layout

pytestmark = pytest.mark.kernel

Run = Callable[..., str]
LIMIT_S = 60.0
MINIMAL = (Path(__file__).parents[2] / "examples/minimal.yaml").read_text()
STATIC = "isp1: {port: eth0, address: [198.51.100.2/30], gateway: [198.51.100.1]}"
SERVER = (
    *("dnsmasq", "--keep-in-foreground", "--port=0", "--interface=wire", "--bind-dynamic", "--user=root", "--no-ping"),
    *("--conf-file=/dev/null", "--dhcp-authoritative", "--dhcp-range=198.51.100.2,198.51.100.2,255.255.255.252,1h"),
    *("--dhcp-option=option:mtu,1400", "--enable-ra", "--dhcp-range=2001:db8:1::,ra-only", "--ra-param=wire,2"),
)


@pytest.fixture
def isp(netns: None, ip: Run, tmp_path: Path) -> Iterator[str]:
    """198.51.100.1 and 2001:db8:1::1 at the other end of eth0, in a namespace that forwards."""
    name = f"isp{os.getpid()}"
    ip("netns", "add", name)
    try:
        ip("link", "add", "eth0", "type", "veth", "peer", "name", "wire", "netns", name)
        ip("-n", name, "link", "set", "wire", "up")
        ip("-n", name, "address", "add", "198.51.100.1/30", "dev", "wire")
        ip("-n", name, "address", "add", "2001:db8:1::1/64", "dev", "wire", "nodad")
        # A router's own forwarding must not keep it from hearing advertisements.
        Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("1")
        files = (f"--pid-file={tmp_path / 'pid'}", f"--dhcp-leasefile={tmp_path / 'leases'}")
        with subprocess.Popen(("ip", "netns", "exec", name, *SERVER, *files)) as server:
            try:
                yield name
            finally:
                server.kill()
    finally:
        ip("netns", "del", name)


@pytest.mark.parametrize(
    ("uplink", "four", "six"),
    [
        pytest.param("isp1: {port: eth0, dhcp: true}", True, False, id="DHCP"),
        pytest.param("isp1: {port: eth0, dhcp: true, autoconf: true}", True, True, id="both"),
        pytest.param("isp1: {port: eth0, autoconf: true}", False, True, id="IPv6"),
    ],
)
def test_the_uplink_gets_what_the_isp_gives(
    isp: str, ip: Run, tmp_path: Path, uplink: str, *, four: bool, six: bool
) -> None:
    layout = Layout("acme")
    plan = compile_plan(load(MINIMAL.replace(STATIC, uplink), "network.yaml"), "par1")
    client = RenderedUnit(dhcpcd.render(plan, layout), layout, tmp_path)
    ip("link", "set", "eth0", "up")
    resolv = Path("/etc/resolv.conf")
    before = resolv.read_text() if resolv.exists() else ""
    client.start()
    try:
        deadline = time.monotonic() + LIMIT_S
        while (now := defaults(ip)) != wanted(four=four, six=six):
            assert time.monotonic() < deadline, f"{now}\n{client.log.read_text()}"
            time.sleep(0.1)
        said = client.log.read_text()
    finally:
        client.stop()
    # What it was given stays for the next one, and nobody else's files were touched.
    assert defaults(ip) == wanted(four=four, six=six)
    assert (resolv.read_text() if resolv.exists() else "") == before
    assert "unknown option" not in said
    assert "invalid" not in said


def wanted(*, four: bool, six: bool) -> list[tuple[str, str, int]]:
    return [*([("198.51.100.1", "dhcp", 100)] if four else []), *([("link-local", "ra", 100)] if six else [])]


def defaults(ip: Run) -> list[tuple[str, str, int]]:
    found = []
    for family in ("-4", "-6"):
        for route in json.loads(ip("-j", family, "route", "show", "default") or "[]"):
            gateway = "link-local" if route["gateway"].startswith("fe80:") else route["gateway"]
            found.append((gateway, route["protocol"], route["metric"]))
    return found
