"""A PPPoE uplink against a real access concentrator, in a kernel that has PPP: what is rendered, run as it is."""

import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ipsec_pair import wait_for
from mss_checks import check_mss, lan
from mtu_checks import check, child, namespace, proposals, ready
from mtu_pair import ETH_P_ALL, UNDERLAY, pair
from mtu_table import ESPS, WAYS, Way
from pppoe_session import LIMIT_S, concentrator, until
from pppoe_session import session as pppoe
from rendered_unit import RenderedUnit

from dmvpn.network.plan import Plane

pytestmark = [pytest.mark.vm, pytest.mark.wide]

Run = Callable[..., str]
OF_IPV4 = [way for way in WAYS if way.family == 4]
ETH_P_PPP_SES = 0x8864
HEADERS_OCTETS = 8  # PPPoE 6 and PPP 2, RFC 2516 section 4
IP_IN_PPP = 0x21


@pytest.fixture
def isp(netns: None, ip: Run, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """An access concentrator at the other end of eth0: 203.0.113.1, which gives 203.0.113.77 to anna@isp."""
    name = f"isp{os.getpid()}"
    ip("netns", "add", name)
    try:
        ip("link", "add", "eth0", "type", "veth", "peer", "name", "wire", "netns", name)
        ip("-n", name, "link", "set", "wire", "up")
        ip("-n", name, "link", "set", "lo", "up")
        ip("link", "set", "eth0", "up")
        enter = ("ip", "netns", "exec", name)
        with concentrator(enter, "wire", "203.0.113.1", "203.0.113.77", tmp_path) as server:
            yield server
    finally:
        ip("netns", "del", name)


@pytest.fixture
def session(isp: object, tmp_path: Path) -> Iterator[RenderedUnit]:
    with pppoe("eth0", tmp_path) as unit:
        yield unit


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


@pytest.mark.parametrize("way", OF_IPV4, ids=str)
def test_the_mtu_of_1492_is_the_largest_that_stays_one_packet_in_a_session(tmp_path: Path, way: Way) -> None:
    """For every cipher; and on the cable below the session no frame is longer than Ethernet's 1500 octets."""
    with namespace(), pair(tmp_path, way.plane, pppoe=True) as found:
        mtu = json.loads(subprocess.check_output(("ip", "-j", "link", "show", found.device)))[0]["mtu"]
        assert mtu == 1492
        ready(found, way)
        with lan(found, way, tmp_path) as hosts:
            for esp in proposals(way):
                child(found, way, esp)
                largest = way.underlay_octets(esp, way.mtu_octets(esp, mtu)) + HEADERS_OCTETS
                for checked, one in ((check, found), (check_mss, hosts)):
                    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL)) as cable:
                        cable.bind(("e0", ETH_P_ALL))  # the others are not shown what is sent
                        checked(one, way, esp, mtu)
                        frames = sent(cable)
                    assert largest in frames, f"{way}, {esp}: {frames}"
                    assert max(frames) <= 1500


@pytest.mark.parametrize("plane", Plane, ids=str)
def test_what_goes_over_a_session_goes_on_when_it_is_made_anew(tmp_path: Path, ip: Run, plane: Plane) -> None:
    """The same address by another device: SAs and tunnels are of addresses alone."""
    way = Way(plane)
    with namespace(), pair(tmp_path, way.plane, pppoe=True) as found:
        ready(found, way)
        child(found, way, ESPS[0])
        check(found, way, ESPS[0], 1492)
        index = json.loads(ip("-j", "link", "show", found.device))[0]["ifindex"]
        ip("link", "set", "e0", "down")
        wait_for(lambda: found.device not in ip("link"), "the session's end", LIMIT_S)
        ip("link", "set", "e0", "up")
        # The other end of it is there a moment later than this one.
        ping = ("ping", "-c", "1", "-W", "1", UNDERLAY[4][1])
        wait_for(lambda: subprocess.run(ping, capture_output=True).returncode == 0, "the session again", LIMIT_S)
        assert json.loads(ip("-j", "link", "show", found.device))[0]["ifindex"] != index
        check(found, way, ESPS[0], 1492)


def sent(cable: socket.socket) -> list[int]:
    """The octets that each frame with IP had in it, of those we sent."""
    found = []
    while True:
        try:
            octets, (_device, protocol, kind, *_) = cable.recvfrom(65535, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return found
        session = protocol == ETH_P_PPP_SES and kind == socket.PACKET_OUTGOING
        if session and int.from_bytes(octets[6:8]) == IP_IN_PPP:
            found.append(len(octets))
