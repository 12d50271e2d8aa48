"""A PPPoE uplink against a real access concentrator, in a kernel that has PPP: what is rendered, run as it is."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rendered_unit import RenderedUnit

from dmvpn.linux import process
from dmvpn.network.compile import compile_plan
from dmvpn.network.loading import load
from dmvpn.network.plan import Plan
from dmvpn.render import pppd
from dmvpn.render.layout import Layout

pytestmark = [pytest.mark.vm, pytest.mark.wide]

Run = Callable[..., str]
LIMIT_S = 120.0
MINIMAL = (Path(__file__).parents[2] / "examples/minimal.yaml").read_text()
STATIC = "isp1: {port: eth0, address: [198.51.100.2/30], gateway: [198.51.100.1]}"
SESSION = "isp1: {port: eth0, pppoe: {user: anna@isp, password: {file: secrets/isp}}}"
PASSWORD = b'a "strange" \\ one'
SERVER = """
import os, sys
from dmvpn.linux.supervisor_child import lay_over
from pathlib import Path
lay_over(((Path(sys.argv[1]), Path("/etc/ppp/chap-secrets")),))
os.execv(sys.argv[2], sys.argv[2:])
"""


def plan() -> Plan:
    network = load(MINIMAL.replace(STATIC, SESSION), "network.yaml")
    return compile_plan(network, "par1", secrets={"secrets/isp": PASSWORD})


@pytest.fixture
def isp(netns: None, ip: Run, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """An access concentrator at the other end of eth0: 203.0.113.1, which gives 203.0.113.77 to anna@isp."""
    name = f"isp{os.getpid()}"
    secrets, options = tmp_path / "chap-secrets", tmp_path / "options"
    word = PASSWORD.decode().replace("\\", "\\\\").replace('"', '\\"')
    secrets.write_text(f'"anna@isp" * "{word}" *\n')
    secrets.chmod(0o600)
    options.write_text("require-chap\nlcp-echo-interval 10\nlcp-echo-failure 3\nnoipv6\nnoccp\nmtu 1492\nmru 1492\n")
    ip("netns", "add", name)
    try:
        ip("link", "add", "eth0", "type", "veth", "peer", "name", "wire", "netns", name)
        ip("-n", name, "link", "set", "wire", "up")
        ip("-n", name, "link", "set", "lo", "up")
        ip("link", "set", "eth0", "up")
        argv = (process.find("pppoe-server"), "-F", "-I", "wire", "-L", "203.0.113.1", "-R", "203.0.113.77", "-N", "1")
        more = ("-O", str(options), "-C", "isp")
        command = ("ip", "netns", "exec", name, sys.executable, "-c", SERVER, str(secrets), *argv, *more)
        with subprocess.Popen(command, start_new_session=True) as server:
            try:
                yield server
            finally:
                os.killpg(server.pid, signal.SIGKILL)
    finally:
        ip("netns", "del", name)


@pytest.fixture
def session(isp: object, tmp_path: Path) -> Iterator[RenderedUnit]:
    layout = Layout("acme")
    unit = RenderedUnit(pppd.render(plan(), layout), layout, tmp_path)
    yield unit
    unit.stop()


def until(what: str, condition: Callable[[], object], log: Path) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        said = log.read_text() if log.exists() else ""
        assert time.monotonic() < deadline, f"{what}: {said}"
        time.sleep(0.1)


def routes(ip: Run) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(ip("-j", "route", "show", "default"))
    return found


def test_the_session_brings_address_mtu_and_the_uplinks_route(session: RenderedUnit, ip: Run) -> None:
    session.start()
    until("a default route", lambda: routes(ip), session.log)
    assert [(one["dev"], one["protocol"], one["metric"]) for one in routes(ip)] == [("ppp-isp1", "dhcp", 100)]
    link = json.loads(ip("-j", "address", "show", "ppp-isp1"))[0]
    assert (link["mtu"], link["addr_info"][0]["local"]) == (1492, "203.0.113.77")
    subprocess.run(("ping", "-c", "1", "-W", "10", "-M", "do", "-s", "1464", "203.0.113.1"), check=True, timeout=30)
    # Silence is noticed by echoes that nobody answers, and the session is made anew by itself.
    index = link["ifindex"]
    ip("link", "set", "eth0", "down")
    until("the session's end", lambda: "ppp-isp1" not in ip("link"), session.log)
    ip("link", "set", "eth0", "up")
    until("the session again", lambda: routes(ip), session.log)
    assert json.loads(ip("-j", "address", "show", "ppp-isp1"))[0]["ifindex"] != index
