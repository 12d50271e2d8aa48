"""Real faults, one after the other in one running lab: each is found and named, and after its repair all is good."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest
from vpn_lab import Figure, Vpn, until, until_nothing

from dmvpn.daemon.control import WhyNot
from dmvpn.doctor.report import Finding, Layer, Outcome

NETWORK = "doctor"
pytestmark = pytest.mark.lab

DEVICE = "ward-blue"
NARROW = 1400
FIREWALL = "table inet hole {{ chain out {{ type filter hook output priority filter; {rule} drop; }}; }}"
MUTE = FIREWALL.format(rule="icmp type destination-unreachable icmp code frag-needed")


def assert_good(vpn: Vpn, *routers: str) -> None:
    for router in routers:
        until_nothing(f"{router} to be well", partial(vpn.ill, router), within_s=40)


def shell(vpn: Vpn, node: str, *commands: str) -> None:
    """Commands of ip and others, by hand."""
    for command in commands:
        done = vpn.run(node, *command.split())
        assert done.status == 0, done


@dataclass(frozen=True)
class Fault:
    """What is broken and mended, who is examined, and the layer, check and words that must be found there."""

    router: str
    layer: Layer
    check: str
    words: tuple[str, ...]
    breaking: Callable[[Vpn], None]
    mending: Callable[[Vpn], None]
    outcome: Outcome = Outcome.FAILED


def narrow(vpn: Vpn, octets: int) -> None:
    shell(vpn, "middle", f"ip link set to-far mtu {octets}")
    shell(vpn, "far", f"ip link set to-middle mtu {octets}")


def dig_hole(vpn: Vpn) -> None:
    narrow(vpn, NARROW)
    shell(vpn, "middle", f"nft {MUTE}")


def fill_hole(vpn: Vpn) -> None:
    shell(vpn, "middle", "nft delete table inet hole")
    narrow(vpn, 1500)


def by_hand(*commands: str) -> Callable[[Vpn], None]:
    """On par1."""
    return lambda vpn: shell(vpn, "par1", *commands)


def on_network(vpn: Vpn) -> None:
    """What netstate puts there when it is reloaded."""
    vpn.reload_service("par1", "network")


def shortcut_routes(vpn: Vpn) -> str:
    return vpn.run("par1", "ip", "route", "show", "proto", "redirect").text


def bgp(*lines: str) -> Callable[[Vpn], None]:
    return lambda vpn: vpn.configure("par1", ("configure terminal", "router bgp 65002", *lines))


def without_dmvpnd(vpn: Vpn) -> None:
    vpn.stop_service("par1", "dmvpnd")


def with_dmvpnd(vpn: Vpn) -> None:
    vpn.start_service("par1", "dmvpnd")


def flush_rules(vpn: Vpn) -> None:
    """With dmvpnd there, the rules are back before anybody can look."""
    without_dmvpnd(vpn)
    shell(vpn, "par1", "nft flush ruleset")


def load_rules(vpn: Vpn) -> None:
    vpn.reload_service("par1", "nftables")
    with_dmvpnd(vpn)


def filter_ike(vpn: Vpn) -> None:
    """At the ISP, in both directions."""
    shell(vpn, "near", "nft add table inet isp", "nft add chain inet isp f { type filter hook forward priority 0 ; }")
    shell(vpn, "near", "nft add rule inet isp f udp dport 4500 drop", "nft add rule inet isp f udp sport 4500 drop")


def allow_ike(vpn: Vpn) -> None:
    shell(vpn, "near", "nft delete table inet isp")


def mute_gateway(vpn: Vpn) -> None:
    """As if it were gone, for whoever asks it; what it forwards goes on for as long as nobody asks."""
    shell(
        vpn,
        "near",
        "nft add table arp gone",
        "nft add chain arp gone in { type filter hook input priority 0 ; policy drop ; }",
    )
    shell(
        vpn,
        "near",
        "nft add table ip gone",
        "nft add chain ip gone in { type filter hook input priority 0 ; policy drop ; }",
    )


def unmute_gateway(vpn: Vpn) -> None:
    shell(vpn, "near", "nft delete table arp gone", "nft delete table ip gone")


def pull_uplink(vpn: Vpn) -> None:
    shell(vpn, "par1", "ip link set eth0 down")


def plug_uplink(vpn: Vpn) -> None:
    shell(vpn, "par1", "ip link set eth0 up")  # the kernel took the default route with it, and dmvpnd brings it back


FAULTS = [
    pytest.param(
        Fault(
            "par1",
            Layer.MTU,
            "way to hq1 (192.0.2.2)",
            ("hop 2 (198.18.0.2) drops packets of more than 1400 octets", "hop 3 (198.18.0.3)", "black hole"),
            dig_hole,
            fill_hole,
        ),
        id="a router that swallows large packets",
    ),
    pytest.param(
        Fault(
            "par1",
            Layer.MTU,
            "way to hq1 (192.0.2.2)",
            ("carries 1400 of 1500 octets, 198.18.0.2 says so", "1464"),
            lambda vpn: narrow(vpn, NARROW),
            lambda vpn: narrow(vpn, 1500),
        ),
        id="a router that says how little it carries",
    ),
    pytest.param(
        Fault(
            "par1",
            Layer.UNDERLAY,
            "gateway 198.51.100.1",
            ("nobody answers for it on eth0",),
            mute_gateway,
            unmute_gateway,
        ),
        id="the gateway is gone",
    ),
    pytest.param(
        Fault(
            "par1",
            Layer.UNDERLAY,
            "uplink isp1",
            ("eth0 is down",),
            pull_uplink,
            plug_uplink,
        ),
        id="the uplink is down",
    ),
    pytest.param(
        Fault("par1", Layer.NHRP, "dmvpnd", ("not running",), without_dmvpnd, with_dmvpnd), id="dmvpnd is stopped"
    ),
    pytest.param(
        Fault("par1", Layer.TUNNEL, "rules", ("table inet dmvpn_ward is gone",), flush_rules, load_rules),
        id="the rule set is flushed",
    ),
    pytest.param(
        Fault(
            "par1",
            Layer.TUNNEL,
            "device of blue",
            ("has MTU 1500, and 1372",),
            by_hand(f"ip link set {DEVICE} mtu 1500"),
            by_hand(f"ip link set {DEVICE} mtu 1372"),
        ),
        id="somebody else's MTU",
    ),
    pytest.param(
        Fault(
            "par1",
            Layer.TUNNEL,
            "sysctls",
            ("net.ipv4.ip_forward is 0 and shall be 1",),
            by_hand("sysctl -q -w net.ipv4.ip_forward=0"),
            by_hand("sysctl -q -w net.ipv4.ip_forward=1"),
            Outcome.WARNING,
        ),
        id="forwarding is off",
    ),
    pytest.param(
        Fault(
            "par1",
            Layer.ROUTE,
            "BGP with hq1",
            ("neighbour 10.255.1.1",),
            bgp("neighbor 10.255.1.1 shutdown"),
            bgp("no neighbor 10.255.1.1 shutdown"),
        ),
        id="BGP is shut down",
    ),
    pytest.param(
        Fault(
            "par1",
            Layer.STATE,
            "neighbour entries",
            ("10.255.1.1 is at 100.64.0.1 in the cache, and at 100.64.0.99",),
            by_hand(f"ip neigh replace 10.255.1.1 lladdr 02:00:64:40:00:63 dev {DEVICE} nud permanent"),
            by_hand(f"ip neigh replace 10.255.1.1 lladdr 02:00:64:40:00:01 dev {DEVICE} nud permanent"),
        ),
        id="a neighbour entry leads elsewhere",
    ),
    pytest.param(
        Fault(
            "par1",
            Layer.STATE,
            "neighbour entries",
            ("has a neighbour entry for 10.255.1.77, of which the cache knows nothing",),
            by_hand(f"ip neigh replace 10.255.1.77 lladdr 02:00:64:40:00:4d dev {DEVICE} nud permanent"),
            by_hand(f"ip neigh del 10.255.1.77 dev {DEVICE}"),
        ),
        id="a neighbour entry of nobody",
    ),
]


def test_a_healthy_network_is_all_good(vpn: Vpn, figure: Figure) -> None:
    assert_good(vpn, "par1", "hq1", "lyo1")
    said = vpn.dmvpn("par1", "doctor")
    assert said.status == 0, said
    lines = said.text.splitlines()
    assert lines[-1] == f"all {len(lines) - 1} checks are good"
    layers = [line.split()[0] for line in lines[:-1]]
    assert list(dict.fromkeys(layers)) == [layer.value for layer in Layer]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_and_gone_after_its_repair(vpn: Vpn, fault: Fault) -> None:
    fault.breaking(vpn)
    try:
        found = until(f"{fault.check}: {fault.words}", partial(_named, vpn, fault), within_s=30)
        assert found.fix
    finally:
        fault.mending(vpn)
    assert_good(vpn, fault.router)


def _named(vpn: Vpn, fault: Fault) -> Finding | None:
    findings = vpn.examined(fault.router)
    wanted = (fault.layer, fault.check, fault.outcome)
    return next(
        (
            one
            for one in findings
            if (one.layer, one.check, one.outcome) == wanted and all(word in one.what for word in fault.words)
        ),
        None,
    )


def test_a_routing_daemon_that_hangs_is_named_and_takes_no_answer_away(vpn: Vpn) -> None:
    pid = str(vpn.services("par1")["bgpd"].pid)
    shell(vpn, "par1", f"kill -STOP {pid}")
    try:
        said, found = vpn.dmvpn("par1", "status"), vpn.examined("par1")
    finally:
        shell(vpn, "par1", f"kill -9 {pid}")
    assert (said.status, "bgpd: takes no command within 3 s, and runs" in said.text) == (3, True), said
    (failed,) = [one for one in found if (one.layer, one.outcome) == (Layer.ROUTE, Outcome.FAILED)]
    again = f"kill -9 {pid}, after which it is started again; then read its log"
    assert (failed.check, failed.fix) == ("FRR", again)
    assert_good(vpn, "par1")


def test_the_command_ends_with_the_first_layer_that_fails_and_tells_scripts(vpn: Vpn) -> None:
    shell(vpn, "par1", f"ip link set {DEVICE} mtu 1500")
    try:
        said = vpn.dmvpn("par1", "doctor")
        told = vpn.dmvpn("par1", "doctor", "--json")
    finally:
        shell(vpn, "par1", f"ip link set {DEVICE} mtu 1372")
    assert said.status == told.status == 1
    assert said.text.splitlines()[-1].startswith("first failure: TUNNEL: device of blue: ward-blue has MTU 1500")
    answer = json.loads(told.stdout)
    assert answer["outcome"] == "failed"
    assert answer["first"]["layer"] == "TUNNEL"
    assert answer["first"] in answer["findings"]


def test_somebody_who_is_not_root_is_told_what_was_not_looked_at(vpn: Vpn) -> None:
    nobody = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
    said = vpn.run("par1", *nobody, "dmvpn", "doctor", "--json")
    assert said.status in (1, 3), said
    findings = json.loads(said.stdout)["findings"]
    assert {row["outcome"] for row in findings if row["layer"] == "SYSTEM"} == {"ok"}
    unseen = {row["layer"] for row in findings if row["outcome"] == "not looked at"}
    assert {"UNDERLAY", "TUNNEL", "ROUTE", "MTU", "STATE"} <= unseen
    assert all(row["fix"] for row in findings if row["outcome"] == "not looked at")


INTERRUPTED = """
import signal, subprocess
with subprocess.Popen(
    ("dmvpn", "doctor"),
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
) as command:
    command.stdout.readline()
    command.send_signal(signal.SIGINT)
    _, said = command.communicate(timeout=60)
print(command.returncode, said.strip())
"""


def test_it_ends_at_once_when_it_is_interrupted(vpn: Vpn) -> None:
    assert vpn.run("par1", "python3", "-c", INTERRUPTED).text.split() == ["130"]  # and no word of Python's


def test_one_destination_is_looked_at_by_its_own_path(vpn: Vpn) -> None:
    """Direct, through the NAT; then its shortcut's route is deleted by hand, and overruled by one set by hand."""
    with vpn.flow("paris-pc", "lyon-pc") as flow:
        flow.until("direct", within_s=20)
        findings = {f"{one.layer}: {one.check}": one for one in vpn.examined("par1", "lyon")}
        assert [one for one in findings.values() if one.outcome is not Outcome.OK] == []
        assert "by a shortcut" in findings["ROUTE: way to lyon"].what
        assert findings["MTU: tunnel to lyon"].what == "1372 octets pass unfragmented"
        # Its NAT lets in nobody but whom it called, from the port that it called.
        way = findings["MTU: way to lyo1 (203.0.113.13)"].what
        assert way == "1500 octets pass as far as anybody answers: hop 1 (198.51.100.1); lyo1 keeps quiet"
        shell(vpn, "par1", "ip route del 10.1.13.0/24 proto redirect")
        until("the route to be back", lambda: "10.1.13.0/24" in shortcut_routes(vpn), within_s=5)
        by_hand = f"10.1.13.0/24 via 10.255.1.1 dev {DEVICE} onlink"
        shell(vpn, "par1", f"ip route add {by_hand}")
        found = {one.check: one for one in vpn.examined("par1")}["shortcut routes"]
        assert found.outcome is Outcome.FAILED
        assert found.what.startswith(
            "10.1.13.0/24 has a shortcut, and the route via 10.255.1.1 with metric 0 goes before"
        )
        assert WhyNot.OVERRULED in vpn.dmvpn("par1", "explain", "paris", "lyon").text
        shell(vpn, "par1", f"ip route del {by_hand}")
        flow.until("direct", within_s=20)
    assert_good(vpn, "par1")


def test_a_filter_for_ike_is_named_when_the_sa_is_gone_too(vpn: Vpn) -> None:
    """The last one: the way back to an SA is another test's matter, and takes its time."""
    filter_ike(vpn)
    wanted = Fault("par1", Layer.UNDERLAY, "hub hq1", ("UDP 4500 of 192.0.2.2: no answer",), filter_ike, allow_ike)
    until("a hub that does not answer", partial(_named, vpn, wanted), within_s=30)
    found = {one.check: one for one in vpn.examined("par1")}
    assert found["registration at hq1"].outcome is Outcome.FAILED
    assert found["tunnel to hq1"].outcome is Outcome.FAILED
    assert "as far as anybody answers" in found["way to hq1 (192.0.2.2)"].what
