"""TCP through a router of ours: both ends send segments of the computed size, whichever of them called."""

import sys
from pathlib import Path

import pytest
import render_plans as plans
from render_trees import stage
from render_wires import Namespaces, run, wait_for

pytestmark = pytest.mark.kernel

ANSWER = """
import socket, sys
server = socket.create_server((sys.argv[1], 80), family=socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
print("listening", flush=True)
called, _ = server.accept()
called.recv(1)
print(called.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG), flush=True)
called.send(b"x")
called.recv(1)
"""
CALL = """
import socket, sys
call = socket.create_connection((sys.argv[1], 80), timeout=20)
call.send(b"x")
call.recv(1)
print(call.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG))
"""
HOSTS = {4: ("10.1.0.10", "10.1.12.10", 24), 6: ("fd00:1::10", "fd00:12::10", 64)}
ROUTER = {4: ("10.1.0.1", "10.1.12.1"), 6: ("fd00:1::1", "fd00:12::1")}


@pytest.mark.parametrize("family", [4, 6])
def test_both_ends_of_a_connection_have_the_computed_segment_size(
    namespaces: Namespaces, tmp_path: Path, family: int
) -> None:
    plan = plans.hub()
    cloud = plan.clouds[0]
    router, *ends = (namespaces.add(name) for name in ("router", "near", "far"))
    near, far, length = HOSTS[family]
    for node, device, own, gateway in zip(ends, ("eth1", cloud.device), (near, far), ROUTER[family], strict=True):
        run("ip", "link", "add", device, "netns", router, "type", "veth", "peer", "name", "eth0", "netns", node)
        for name, where, address in ((router, device, gateway), (node, "eth0", own)):
            run(
                "ip",
                "-n",
                name,
                "addr",
                "add",
                f"{address}/{length}",
                "dev",
                where,
                *(("nodad",) if family == 6 else ()),
            )
            run("ip", "-n", name, "link", "set", where, "up")
        run("ip", "-n", node, "route", "add", "default", "via", gateway)
        # With timestamps the size of a segment is 12 octets less than was agreed.
        run("ip", "netns", "exec", node, "sysctl", "-qw", "net.ipv4.tcp_timestamps=0")
    run("ip", "netns", "exec", router, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    stage(plan, tmp_path)
    run("ip", "netns", "exec", router, "nft", "-f", str(tmp_path / "nftables.nft"))
    log = tmp_path / "answer"
    namespaces.start(ends[1], sys.executable, "-c", ANSWER, far, log=log)
    wait_for(lambda: log.exists() and "listening" in log.read_text(), "somebody listens")
    called = run("ip", "netns", "exec", ends[0], sys.executable, "-c", CALL, far).strip()
    computed = cloud.mss_v4_octets if family == 4 else cloud.mss_v6_octets
    assert computed == cloud.mtu_octets - (40 if family == 4 else 60)
    assert called == str(computed)
    assert log.read_text().split()[-1] == str(computed)
