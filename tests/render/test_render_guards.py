"""The rule set in a kernel: what it drops, what it logs, what it leaves alone."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import render_plans as plans
from render_trees import stage
from render_wires import Namespaces, run, wait_for

from dmvpn.network.plan import Plan, Plane

pytestmark = pytest.mark.kernel

SEND_GRE = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_GRE) as gre:
    for target in sys.argv[1:]:
        try:
            key = target.partition("/")[2] or "00000001"
            gre.sendto(bytes.fromhex("20002001" + key), (target.partition("/")[0], 0))
            print(target, "sent")
        except OSError as error:
            print(target, error.strerror)
"""


def _counters(netns: str) -> dict[str, int]:
    listed = json.loads(
        run("ip", "netns", "exec", netns, "nft", "-j", "list", "counters", "table", "inet", "dmvpn_acme")
    )
    return {entry["counter"]["name"]: entry["counter"]["packets"] for entry in listed["nftables"] if "counter" in entry}


def _wire(namespaces: Namespaces, tree: Path, plan: Plan | None = None) -> tuple[str, str]:
    """A router with its rules, and the WAN on the other end of its uplink."""
    router, wan = namespaces.add("router"), namespaces.add("wan")
    run("ip", "link", "add", "eth0", "netns", router, "type", "veth", "peer", "name", "eth0", "netns", wan)
    for name, address in ((router, "192.0.2.1/24"), (wan, "192.0.2.2/24")):
        run("ip", "-n", name, "addr", "add", address, "dev", "eth0")
        run("ip", "-n", name, "link", "set", "eth0", "up")
    run("ip", "-n", router, "addr", "add", "100.64.0.1/32", "dev", "lo")
    run("ip", "-n", router, "route", "add", "default", "via", "192.0.2.2")
    run("ip", "-n", wan, "route", "add", "default", "via", "192.0.2.1")
    run("ip", "-n", wan, "addr", "add", "100.64.0.11/32", "dev", "lo")
    stage(plan or plans.hub(), tree)
    run("ip", "netns", "exec", router, "nft", "-f", str(tree / "nftables.nft"))
    return router, wan


def _send(netns: str, *targets: str) -> list[str]:
    return run("ip", "netns", "exec", netns, sys.executable, "-c", SEND_GRE, *targets).splitlines()


def test_gre_between_transport_addresses_never_leaves_in_clear(namespaces: Namespaces, tmp_path: Path) -> None:
    router, _ = _wire(namespaces, tmp_path)
    assert _send(router, "100.64.0.11", "192.0.2.2") == ["100.64.0.11 Operation not permitted", "192.0.2.2 sent"]
    assert _counters(router)["gre_clear_out"] == 1
    # Without the rules it leaves: the test sees what it claims to see.
    run("ip", "netns", "exec", router, "nft", "delete", "table", "inet", "dmvpn_acme")
    assert _send(router, "100.64.0.11") == ["100.64.0.11 sent"]


def test_gre_in_clear_for_a_transport_address_is_dropped(namespaces: Namespaces, tmp_path: Path) -> None:
    router, wan = _wire(namespaces, tmp_path)
    _send(wan, "100.64.0.1", "100.64.0.1", "192.0.2.1")
    wait_for(lambda: _counters(router)["gre_clear_in"] == 2, "two packets dropped, the host's own GRE not")


def _in_kernel() -> Plan:
    plan = plans.hub()
    return replace(plan, clouds=tuple(replace(cloud, plane=Plane.KERNEL, multicast_group=9) for cloud in plan.clouds))


def test_in_the_kernel_the_clouds_key_counts_too(namespaces: Namespaces, tmp_path: Path) -> None:
    router, wan = _wire(namespaces, tmp_path, _in_kernel())
    assert _send(router, "100.64.0.11", "100.64.0.11/00000009", "192.0.2.2", "192.0.2.2/00000009") == [
        "100.64.0.11 Operation not permitted",
        "100.64.0.11/00000009 Operation not permitted",
        "192.0.2.2 Operation not permitted",
        "192.0.2.2/00000009 sent",  # the host's own
    ]
    assert _counters(router)["gre_clear_out"] == 3
    _send(wan, "100.64.0.1/00000009", "192.0.2.1", "192.0.2.1/00000009")
    wait_for(lambda: _counters(router)["gre_clear_in"] == 2, "two packets dropped, the host's own GRE not")


SEND_UDP = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
    udp.bind((sys.argv[1], 0))
    udp.sendto(b"x", (sys.argv[2], 9))
"""


@pytest.mark.parametrize("plane", list(Plane))
def test_nothing_is_forwarded_from_or_to_a_transport_address(
    namespaces: Namespaces, tmp_path: Path, plane: Plane
) -> None:
    """Of any protocol, whatever leads to the range: on the kernel plane the tunnel does."""
    router, host, cloud = (namespaces.add(name) for name in ("router", "host", "cloud"))
    for device, there, address in (("eth1", host, "10.1.1"), ("acme-blue", cloud, "10.255.1")):
        run("ip", "link", "add", device, "netns", router, "type", "veth", "peer", "name", device, "netns", there)
        for name, last in ((router, 1), (there, 2)):
            run("ip", "-n", name, "addr", "add", f"{address}.{last}/24", "dev", device)
            run("ip", "-n", name, "link", "set", device, "up")
    for name, gateway in ((host, "10.1.1.1"), (cloud, "10.255.1.1")):
        run("ip", "-n", name, "route", "add", "default", "via", gateway)
    run("ip", "-n", host, "addr", "add", "100.64.0.11/32", "dev", "lo")
    for destination in ("100.64.0.0/16", "10.1.12.0/24"):
        run("ip", "-n", router, "route", "add", destination, "via", "10.255.1.2")
    run("ip", "netns", "exec", router, "sysctl", "-qw", "net.ipv4.ip_forward=1")
    stage(_in_kernel() if plane is Plane.KERNEL else plans.hub(), tmp_path)
    rules = tmp_path / "nftables.nft"
    rules.write_text(rules.read_text().replace("oiftype ipgre ", "").replace("iiftype ipgre ", ""))
    run("ip", "netns", "exec", router, "nft", "-f", str(rules))
    for source, target in (("10.1.1.2", "100.64.0.12"), ("100.64.0.11", "10.1.12.1"), ("10.1.1.2", "10.1.12.1")):
        run("ip", "netns", "exec", host, sys.executable, "-c", SEND_UDP, source, target)
    wait_for(lambda: _counters(router)["transport_forwarded"] == 2, "two of the three dropped")


def test_multicast_goes_to_dmvpnd_and_traffic_is_noted(namespaces: Namespaces, tmp_path: Path) -> None:
    hub, spoke = namespaces.add("hub"), namespaces.add("spoke")
    run("ip", "link", "add", "acme-blue", "netns", hub, "type", "veth", "peer", "name", "acme-blue", "netns", spoke)
    # The kernel's own multicast (MLD) would be counted too.
    run("ip", "netns", "exec", hub, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
    run("ip", "-n", hub, "addr", "add", "10.255.1.1/24", "dev", "acme-blue")
    for name in (hub, spoke):
        run("ip", "-n", name, "link", "set", "acme-blue", "up")
    for hop in ("10.255.1.12", "10.255.1.13"):
        run("ip", "-n", hub, "neigh", "add", hop, "lladdr", "02:00:64:40:00:0c", "dev", "acme-blue")
    run("ip", "-n", hub, "route", "add", "10.1.12.0/24", "via", "10.255.1.12")
    run("ip", "-n", hub, "route", "add", "239.0.0.0/8", "dev", "acme-blue")
    stage(_in_kernel(), tmp_path)
    rules = tmp_path / "nftables.nft"
    rules.write_text(rules.read_text().replace("oiftype ipgre ", ""))  # a veth plays the mGRE device
    run("ip", "netns", "exec", hub, "nft", "-f", str(rules))
    say = "import socket, sys; s = socket.socket(type=2); s.sendto(b'x', (sys.argv[1], int(sys.argv[2])))"
    for address, port in (("10.1.12.10", 9), ("10.255.1.13", 3784), ("239.1.2.3", 9)):
        done = subprocess.run(
            ("ip", "netns", "exec", hub, sys.executable, "-c", say, address, str(port)), check=False, timeout=20
        )
        # The sender of what is dropped hears of it (EPERM), though its copies are on their way.
        assert (done.returncode == 0) != address.startswith("239"), address
    assert _counters(hub)["multicast_blue"] == 1
    used = run("ip", "netns", "exec", hub, "nft", "list", "set", "inet", "dmvpn_acme", "used_blue")
    # By next hop, and not for BFD between routers.
    assert "10.255.1.12" in used
    assert "10.255.1.13" not in used


def test_a_reload_keeps_other_tables_and_its_own_rules(namespaces: Namespaces, tmp_path: Path) -> None:
    router, _ = _wire(namespaces, tmp_path)
    run("ip", "netns", "exec", router, "nft", "add", "table", "inet", "somebody")
    before = run("ip", "netns", "exec", router, "nft", "-s", "list", "table", "inet", "dmvpn_acme")
    run("ip", "netns", "exec", router, "nft", "-f", str(tmp_path / "nftables.nft"))
    assert run("ip", "netns", "exec", router, "nft", "-s", "list", "table", "inet", "dmvpn_acme") == before
    assert "table inet somebody" in run("ip", "netns", "exec", router, "nft", "list", "tables")


CALL = """
import socket, sys
call = socket.socket()
call.setblocking(False)
call.connect_ex((sys.argv[1], 80))
"""


def test_a_hub_reports_a_hairpin_once_and_clamps_its_segments(namespaces: Namespaces, tmp_path: Path) -> None:
    hub, spoke = namespaces.add("hub"), namespaces.add("spoke")
    run("ip", "link", "add", "acme-blue", "netns", hub, "type", "veth", "peer", "name", "acme-blue", "netns", spoke)
    for name, address in ((hub, "10.255.1.1/24"), (spoke, "10.255.1.11/24")):
        run("ip", "-n", name, "addr", "add", address, "dev", "acme-blue")
        run("ip", "-n", name, "link", "set", "acme-blue", "up")
    run("ip", "-n", spoke, "route", "add", "10.1.12.0/24", "via", "10.255.1.1")
    run("ip", "-n", hub, "route", "add", "10.1.12.0/24", "via", "10.255.1.12")
    run("ip", "-n", hub, "neigh", "add", "10.255.1.12", "lladdr", "02:00:64:40:00:0c", "dev", "acme-blue")
    run("ip", "netns", "exec", hub, "sysctl", "-qw", "net.ipv4.ip_forward=1")
    stage(plans.hub(), tmp_path)
    run("ip", "netns", "exec", hub, "nft", "-f", str(tmp_path / "nftables.nft"))
    run("ip", "netns", "exec", spoke, sys.executable, "-c", CALL, "10.1.12.10")
    wait_for(lambda: _counters(hub)["hairpin_blue"] > 0, "the hub saw it go back")
    assert _counters(hub)["mss_blue"] == 1  # by the first of the two directions; the second found it small enough
    pairs = run("ip", "netns", "exec", hub, "nft", "list", "set", "inet", "dmvpn_acme", "pairs_ip_blue")
    assert "10.255.1.11 . 10.1.12.10" in pairs
