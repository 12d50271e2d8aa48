"""Routes and rules of uplinks in a namespace of their own, and what the kernel tells of their devices."""

import json
import select
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from dmvpn.linux import uplink_tables
from dmvpn.linux.netlink import device_index
from dmvpn.linux.routes import TABLE_MAIN
from dmvpn.linux.uplink_watch import UplinkWatch
from dmvpn.linux.uplink_ways import Hop, UplinkWays, Way, WayRule, everything

pytestmark = pytest.mark.usefixtures("netns")
Ip = Callable[..., str]
PROTOCOL = 79
TABLES = (440001, 440002)
MARKS = ((440001, 0x10000), (440002, 0x20000))
ARGUMENTS = ("79", "400", str(0xFF0000), "440000", "4:200", "440001:65536", "440002:131072")


@pytest.fixture
def lines(netns: None, ip: Ip) -> None:
    for number, address in ((0, "192.0.2.2/30"), (1, "198.51.100.2/30")):
        ip("link", "add", f"e{number}", "type", "veth", "peer", "name", f"p{number}")
        ip("address", "add", address, "dev", f"e{number}")
        ip("link", "set", f"e{number}", "up")
        ip("link", "set", f"p{number}", "up")
    ip("-6", "address", "add", "2001:db8::2/64", "dev", "e0", "nodad")


def _ways() -> list[Way]:
    first, second = device_index("e0"), device_index("e1")
    one, two, three = (ip_address(text) for text in ("192.0.2.1", "198.51.100.1", "2001:db8::1"))
    return [
        Way(TABLE_MAIN, everything(4), (Hop(first, one, 2), Hop(second, two)), 50),
        Way(TABLE_MAIN, everything(4), (Hop(first, one),), 100),
        Way(TABLE_MAIN, everything(4), (Hop(second, two),), 200),
        Way(TABLE_MAIN, everything(6), (Hop(first, three),), 100),
        Way(440001, ip_network("192.0.2.0/30"), (Hop(first, None),), 0, ip_address("192.0.2.2")),
        Way(440001, everything(4), (Hop(first, one),), 4196),
        Way(440001, everything(4), (), 4278198272),
        Way(440001, everything(6), (), 4278198272),
    ]


def _routes(ip: Ip, *words: str) -> list[dict[str, Any]]:
    return list(json.loads(ip("-json", *words)))


@pytest.mark.usefixtures("lines")
def test_what_is_wanted_is_brought_once_and_what_is_not_goes(ip: Ip) -> None:
    ip("route", "add", "default", "via", "192.0.2.1", "metric", "700", "proto", "static")
    ways = UplinkWays(PROTOCOL, TABLE_MAIN, TABLES)
    try:
        assert ways.bring(_ways()) is True
        assert ways.bring(_ways()) is False, "brought twice it changes nothing"
        main = _routes(ip, "route", "show", "default")
        assert [row["metric"] for row in main] == [50, 100, 200, 700]
        assert [hop["weight"] for hop in main[0]["nexthops"]] == [2, 1]
        ways.bring(_ways()[2:3])
        assert [row["metric"] for row in _routes(ip, "route", "show", "default")] == [200, 700], "not somebody else's"
        assert _routes(ip, "-6", "route", "show", "default") == []
        assert ip("route", "show", "table", "440001") == ""
        ways.withdraw(4, device_index("e0"), ip_address("192.0.2.1"), 700, 4)
        assert [row["metric"] for row in _routes(ip, "route", "show", "default")] == [200]
    finally:
        ways.close()


@pytest.mark.usefixtures("lines")
def test_rules_come_in_their_order_and_all_of_it_goes_with_the_network(ip: Ip) -> None:
    assert uplink_tables.main(("keep", *ARGUMENTS)) == 0
    ways = UplinkWays(PROTOCOL, TABLE_MAIN, TABLES)
    by_source = WayRule(402, 440001, 4, source=ip_address("192.0.2.2"))
    try:
        ways.rule((*uplink_tables.standing_rules(400, 0xFF0000, MARKS), by_source))
        ways.bring(_ways())
    finally:
        ways.close()
    rules = [(row["priority"], row["table"], row.get("fwmark"), row["src"]) for row in _routes(ip, "rule")]
    assert rules[1:5] == [
        (400, "main", None, "all"),
        (401, "440001", "0x10000", "all"),
        (401, "440002", "0x20000", "all"),
        (402, "440001", None, "192.0.2.2"),
    ]
    assert len(_routes(ip, "-6", "rule")) == 2 + 3
    assert uplink_tables.main(("remove", *ARGUMENTS)) == 0
    assert len(_routes(ip, "rule")) == 3
    assert len(_routes(ip, "-6", "rule")) == 2
    assert ip("route", "show", "table", "440001") == ""
    left = [(row["metric"], row["protocol"]) for row in _routes(ip, "route", "show", "default")]
    assert left == [(100, "dhcp"), (200, "79")], "the client's again, and what another unit takes away"
    assert [row["protocol"] for row in _routes(ip, "-6", "route", "show", "default")] == ["dhcp"]


@pytest.mark.usefixtures("lines")
def test_an_uplink_on_another_device_leaves_no_rule_and_no_table_of_its_former_number(ip: Ip) -> None:
    """Its number is another one then, and the rule for its address would still look up the former table."""
    run = range(440000, 440256)
    own = ip_address("192.0.2.2")
    after = [way for way in _ways() if way.table != 440001]
    for number, ways in ((440001, _ways()), (440007, after)):
        marks = ((number, 0x10000), MARKS[1])
        uplink_tables.keep(PROTOCOL, 400, 0xFF0000, 440000, marks)
        anew = UplinkWays(PROTOCOL, TABLE_MAIN, [table for table, _mark in marks], run)
        try:
            anew.rule((*uplink_tables.standing_rules(400, 0xFF0000, marks), WayRule(402, number, 4, source=own)))
            anew.bring(ways)
        finally:
            anew.close()
    assert {row["table"] for row in _routes(ip, "rule")} == {"local", "main", "default", "440007", "440002"}
    assert (ip("route", "show", "table", "440001"), ip("-6", "route", "show", "table", "440001")) == ("", "")


@pytest.mark.usefixtures("lines")
def test_rules_of_an_unused_number_go_before_dmvpnd_comes_and_its_own_stay(ip: Ip) -> None:
    ways = UplinkWays(PROTOCOL, TABLE_MAIN, TABLES)
    try:
        ways.rule([WayRule(402, table, 4, source=ip_address("192.0.2.2")) for table in TABLES])
    finally:
        ways.close()
    uplink_tables.keep(PROTOCOL, 400, 0xFF0000, 440000, MARKS[:1])
    assert [row["table"] for row in _routes(ip, "rule") if row["priority"] == 402] == ["440001"]


@pytest.mark.usefixtures("lines")
def test_internal_packets_follow_no_mark_and_no_source_to_an_isp(ip: Ip) -> None:
    ip("route", "add", "unreachable", "10.0.0.0/8", "metric", "4278198272")
    uplink_tables.keep(PROTOCOL, 400, 0xFF0000, 440000, MARKS)
    ways = UplinkWays(PROTOCOL, TABLE_MAIN, TABLES)
    try:
        ways.bring(_ways())
    finally:
        ways.close()
    marked = ("mark", "0x10000")
    assert _routes(ip, "route", "get", "203.0.113.9", *marked)[0]["dev"] == "e0"
    with pytest.raises(Exception, match="non-zero"):
        ip("route", "get", "10.1.2.3", *marked)
    assert _routes(ip, "route", "get", "203.0.113.9", "mark", "0x42010000")[0]["dev"] == "e0", "others' bits are theirs"


@pytest.mark.parametrize("arguments", [(), ("keep",), ("burn", *ARGUMENTS), ("keep", "x", "1", "1", "1", "-")], ids=str)
def test_wrong_words_are_refused(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert uplink_tables.main(arguments) == 2
    assert "keep or remove" in capsys.readouterr().err


def _told_within(watch: UplinkWatch, wait_s: float) -> bool:
    return bool(select.select([watch], [], [], wait_s)[0]) and watch.changed()


@pytest.mark.usefixtures("lines")
def test_the_kernel_tells_of_carrier_addresses_and_default_routes(ip: Ip) -> None:
    watch = UplinkWatch(("e0", "e1", "nine"))
    try:
        facts = watch.look()
        assert sorted(facts) == ["e0", "e1"]
        assert (facts["e0"].up, facts["e0"].carrier) == (True, True)
        assert [str(one) for one in facts["e0"].addresses] == ["192.0.2.2/30", "2001:db8::2/64"], "no link-local one"
        ip("link", "set", "p0", "down")
        assert _told_within(watch, 5), "the kernel tells of carrier a little later"
        assert watch.look()["e0"].carrier is False
        while _told_within(watch, 0.1):
            pass
        ip("route", "add", "10.0.0.0/8", "via", "198.51.100.1")
        ip("link", "add", "other", "type", "veth", "peer", "name", "far")
        assert not watch.changed(), "neither concerns an uplink"
        ip("route", "add", "default", "via", "198.51.100.1", "proto", "dhcp", "metric", "200")
        assert watch.changed()
        assert [str(row.gateway) for row in watch.look()["e1"].defaults] == ["198.51.100.1"]
        ip("rule", "add", "from", "192.0.2.2", "lookup", "440001", "priority", "402")
        watch.changed()
        ip("rule", "flush")
        assert watch.changed(), "ours were among them"
        ip("link", "delete", "e1")
        assert watch.changed()
        assert sorted(watch.look()) == ["e0"]
    finally:
        watch.close()
