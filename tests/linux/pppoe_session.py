"""A PPPoE session: what is rendered for an uplink at one end, pppoe-server as access concentrator at the other."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rendered_unit import RenderedUnit

from dmvpn.linux import process
from dmvpn.network.compile import compile_plan
from dmvpn.network.loading import load
from dmvpn.network.plan import Plan
from dmvpn.render import pppd
from dmvpn.render.layout import Layout

DEVICE = "ppp-isp1"
LIMIT_S = 120.0
MINIMAL = (Path(__file__).parents[2] / "examples/minimal.yaml").read_text()
STATIC = "isp1: {port: eth0, address: [198.51.100.2/30], gateway: [198.51.100.1]}"
SESSION = "isp1: {port: PORT, pppoe: {user: anna@isp, password: {file: secrets/isp}}}"
PASSWORD = b'a "strange" \\ one'
SERVER = """
import os, sys
from dmvpn.linux.supervisor_child import lay_over
from pathlib import Path
lay_over(((Path(sys.argv[1]), Path("/etc/ppp/chap-secrets")),))
os.execv(sys.argv[2], sys.argv[2:])
"""


def plan(port: str) -> Plan:
    network = load(MINIMAL.replace(STATIC, SESSION.replace("PORT", port)), "network.yaml")
    return compile_plan(network, "par1", secrets={"secrets/isp": PASSWORD})


@contextmanager
def concentrator(
    enter: tuple[str, ...], wire: str, own: str, given: str, directory: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """It has `own` and gives `given` to anna@isp; `enter` are the words that run a program where `wire` is."""
    secrets, options = directory / "chap-secrets", directory / "options"
    password = PASSWORD.decode().replace("\\", "\\\\").replace('"', '\\"')
    secrets.write_text(f'"anna@isp" * "{password}" *\n')
    secrets.chmod(0o600)
    options.write_text("require-chap\nlcp-echo-interval 10\nlcp-echo-failure 3\nnoipv6\nnoccp\nmtu 1492\nmru 1492\n")
    argv = (process.find("pppoe-server"), "-F", "-I", wire, "-L", own, "-R", given, "-N", "1")
    command = (*enter, sys.executable, "-c", SERVER, str(secrets), *argv, "-O", str(options), "-C", "isp")
    with subprocess.Popen(command, start_new_session=True) as server:
        try:
            yield server
        finally:
            os.killpg(server.pid, signal.SIGKILL)


@contextmanager
def session(port: str, directory: Path) -> Iterator[RenderedUnit]:
    """pppd as it is rendered, not yet started."""
    layout = Layout("acme")
    unit = RenderedUnit(pppd.render(plan(port), layout), layout, directory)
    try:
        yield unit
    finally:
        unit.stop()


def until(what: str, condition: Callable[[], object], log: Path) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        said = log.read_text() if log.exists() else ""
        assert time.monotonic() < deadline, f"{what}: {said}"
        time.sleep(0.1)
