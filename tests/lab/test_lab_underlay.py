"""A real lab without a VPN: its WAN has the delay, the NATs and the cuts that the file and the operator ask for."""

import re
import statistics
from functools import partial
from pathlib import Path

import pytest
from lab_plans import DEMO, demo
from udp_peers import answer_from, ask_from

from dmvpn.errors import Fault, WrongInput
from dmvpn.lab import capture, lifecycle, private
from dmvpn.lab.impairment import Change, Direction, Impairment
from dmvpn.lab.node import call_all
from dmvpn.lab.running import Lab, find
from dmvpn.linux import process

pytestmark = [pytest.mark.kernel, pytest.mark.lab]
HUB = "192.0.2.2"


def ping_ms(lab: Lab, router: str, address: str = HUB, count: int = 5) -> list[float]:
    """Round trips; empty when nothing came back. The first packet, which waits for ARP, is left out."""
    argv = ("ping", "-n", "-c", str(count + 1), "-i", "0.02", "-W", "1", address)
    said = lab.node(router).run(argv, accept=(0, 1)).text
    return [float(found) for found in re.findall(r"icmp_seq=(?!1 ).* time=([\d.]+)", said)]


@pytest.mark.parametrize(
    ("router", "rtt_ms"),
    [
        pytest.param("osl1", 2 * (12 + 6), id="public address"),
        pytest.param("hel1", 2 * (14 + 6), id="behind 1 to 1"),
        pytest.param("par1", 2 * (8 + 6), id="behind a port-restricted NAT"),
        pytest.param("lyo1", 2 * (7 + 6), id="behind a port-moving NAT"),
    ],
)
def test_every_router_reaches_the_hub_after_the_delays_of_both_links(underlay: Lab, router: str, rtt_ms: float) -> None:
    measured = statistics.median(ping_ms(underlay, router))
    assert rtt_ms <= measured < rtt_ms + 8


@pytest.mark.parametrize(
    ("router", "seen"),
    [
        pytest.param("osl1", ("198.51.100.2", 4500), id="no NAT"),
        pytest.param("hel1", ("203.0.113.11", 4500), id="1 to 1 keeps the port"),
        pytest.param("par1", ("203.0.113.12", 4500), id="port kept"),
        pytest.param("lyo1", ("203.0.113.13", 24500), id="other port"),
    ],
)
def test_the_hub_sees_each_uplink_as_its_nat_maps_it(underlay: Lab, router: str, seen: tuple[str, int]) -> None:
    hub, spoke = underlay.node("hq1"), underlay.node(router)
    answers = call_all(
        {hub: partial(answer_from, (HUB, 4500), 1), spoke: partial(ask_from, 4500, (HUB, 4500))}, timeout_s=20
    )
    assert answers == {hub: [seen], spoke: True}


@pytest.mark.parametrize(
    ("router", "public", "passes"),
    [
        pytest.param("hel1", ("203.0.113.11", 4500), True, id="1 to 1 lets strangers in"),
        pytest.param("par1", ("203.0.113.12", 4500), False, id="port-restricted does not"),
        pytest.param("lyo1", ("203.0.113.13", 24500), False, id="nor when it moves ports"),
    ],
)
def test_a_nat_filters_packets_nobody_asked_for(
    underlay: Lab, router: str, public: tuple[str, int], *, passes: bool
) -> None:
    spoke, stranger = underlay.node(router), underlay.node("osl1")
    listening = spoke.start_function(partial(_listen, ("0.0.0.0", 4500)))
    try:
        assert stranger.call(partial(ask_from, 5555, public, 3 if passes else 1)) is passes
    finally:
        listening.stop()


def _listen(address: tuple[str, int]) -> int:
    answer_from(address, None)
    return 0


def test_two_port_restricted_spokes_meet_when_both_send(underlay: Lab) -> None:
    """What IKE's hole punching rests on, and what an unfiltered box would break."""
    paris, lyon = underlay.node("par1"), underlay.node("lyo1")
    answers = call_all(
        {
            paris: partial(ask_from, 4500, ("203.0.113.13", 24500), 20),
            lyon: partial(ask_from, 4500, ("203.0.113.12", 4500), 20),
        }
    )
    assert answers == {paris: True, lyon: True}


def test_a_cut_path_stops_two_routers_and_no_other(underlay: Lab) -> None:
    hel1_outside = "203.0.113.11"
    assert ping_ms(underlay, "osl1", hel1_outside)
    underlay.cut_path("osl1", "hel1")
    underlay.cut_path("hel1", "osl1")  # the same path: already cut
    assert ping_ms(underlay, "osl1", hel1_outside, count=2) == []
    assert ping_ms(underlay, "osl1")
    assert underlay.status().cuts == (("hel1", "osl1"),)
    underlay.heal_path("osl1", "hel1")
    assert ping_ms(underlay, "osl1", hel1_outside)


def test_impairments_merge_and_show_both_directions(underlay: Lab) -> None:
    before = Impairment(delay_s=0.012, rate_bps=200_000_000)
    after = underlay.impair("osl1.isp1", Change(delay_s=0.052), (Direction.UP,))
    assert (after.up, after.down) == (Impairment(delay_s=0.052, rate_bps=200_000_000), before)
    assert 76 <= statistics.median(ping_ms(underlay, "osl1")) < 84
    lossy = underlay.impair("osl1.isp1", Change(silent=True))
    assert lossy.up == Impairment(delay_s=0.052, rate_bps=200_000_000, silent=True)
    assert ping_ms(underlay, "osl1", count=2) == []
    healed = underlay.heal("osl1.isp1")
    assert (healed.up, healed.down) == (before, before)
    assert ping_ms(underlay, "osl1")


def test_a_link_that_is_not_there_is_named_with_those_that_are(underlay: Lab) -> None:
    with pytest.raises(WrongInput) as caught:
        underlay.impair("osl1.isp9", Change(loss=0.1))
    known = "hq1.wan, hel1.isp1, par1.isp1, lyo1.isp1, osl1.isp1"
    assert str(caught.value) == f"lab underlay: no link osl1.isp9 can be impaired; it has {known}"


def test_the_relay_counts_what_it_carries(underlay: Lab) -> None:
    ping_ms(underlay, "osl1")
    status = underlay.status()
    if not status.relay:
        pytest.skip("this kernel has netem: there is no relay")
    counts = next(one for one in status.relay if (one.link, one.direction) == ("osl1.isp1", Direction.UP))
    assert counts.packets >= 5
    assert counts.overflow == 0


def test_a_capture_counts_kinds_of_packets(underlay: Lab) -> None:
    captured = capture.start(underlay.node("internet"), "any", capture.in_memory(), arriving="in")
    ping_ms(underlay, "osl1", count=4)
    counted = captured.counted()
    assert counted["icmp"] >= 10
    assert counted["gre_in_clear"] == 0


def test_a_node_has_files_and_a_name_of_its_own(underlay: Lab) -> None:
    osl1, hel1 = underlay.node("osl1"), underlay.node("hel1")
    osl1.call(partial(_write, Path("/etc/dmvpn/probe"), Path("/var/lib/dmvpn/probe"), Path("/run/probe")))
    for path in ("/etc/dmvpn/probe", "/var/lib/dmvpn/probe", "/run/probe"):
        assert not Path(path).exists()
        assert hel1.run(("test", "-e", path), accept=(0, 1)).status == 1
    assert osl1.run(("cat", str(private.MARKER))).text == "underlay\n"
    assert osl1.run(("hostname",)).text == "osl1\n"


def _write(*paths: Path) -> None:
    for path in paths:
        path.write_text("x")


def test_nothing_in_a_lab_can_set_the_clock(underlay: Lab) -> None:
    """Setting it to what it is would harm nobody; it is refused all the same."""
    said = underlay.node("osl1").run(("sh", "-c", 'date -s "@$(date +%s)"'), accept=range(256))
    assert said.status != 0
    assert b"Operation not permitted" in said.stderr


def test_what_goes_wrong_inside_comes_out_as_it_was(underlay: Lab) -> None:
    with pytest.raises(process.ProcessFault) as caught:
        underlay.node("osl1").run(("ip", "link", "show", "nowhere"))
    assert caught.value.status == 1
    assert 'Device "nowhere" does not exist' in str(caught.value)


def test_a_call_that_takes_too_long_is_ended(underlay: Lab) -> None:
    with pytest.raises(Fault) as caught:
        underlay.node("osl1").call(partial(answer_from, ("127.0.0.1", 9), 1), timeout_s=0.2)
    assert str(caught.value) == "osl1: was not done within 0.2 s"


@pytest.mark.parametrize(
    ("argv", "status"), [(("true",), 0), (("sh", "-c", "exit 7"), 7), (("sh", "-c", "kill -TERM $$"), 143)]
)
def test_exec_gives_the_programs_exit_status(underlay: Lab, argv: tuple[str, ...], status: int) -> None:
    assert underlay.node("osl1").exec(argv) == status


def test_two_labs_of_one_file_do_not_see_each_other(underlay: Lab, base: Path) -> None:
    network, plans = demo()
    with lifecycle.held(network.lab, plans, name="second", file=str(DEMO), base=base) as second:
        second.impair("osl1.isp1", Change(silent=True))
        assert ping_ms(second, "osl1", count=2) == []
        assert ping_ms(underlay, "osl1")
        assert find("underlay", base).keeper_pid == underlay.keeper_pid
    assert ping_ms(underlay, "osl1")
    assert find(None, base).name == "underlay"
