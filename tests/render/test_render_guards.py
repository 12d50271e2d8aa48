"""The rule set in a kernel: what it drops, what it logs, what it leaves alone."""

import json
import sys
from pathlib import Path

import pytest
import render_plans as plans
from render_trees import stage
from render_wires import Namespaces, run, wait_for

pytestmark = pytest.mark.kernel

SEND_GRE = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_GRE) as gre:
    for target in sys.argv[1:]:
        try:
            gre.sendto(bytes.fromhex("2000200100000001"), (target, 0))
            print(target, "sent")
        except OSError as error:
            print(target, error.strerror)
"""


def _counters(netns: str) -> dict[str, int]:
    listed = json.loads(
        run("ip", "netns", "exec", netns, "nft", "-j", "list", "counters", "table", "inet", "dmvpn_acme")
    )
    return {entry["counter"]["name"]: entry["counter"]["packets"] for entry in listed["nftables"] if "counter" in entry}


def _wire(namespaces: Namespaces, tree: Path) -> tuple[str, str]:
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
    stage(plans.hub(), tree)
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
