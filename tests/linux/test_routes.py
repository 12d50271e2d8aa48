import os
import select
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from dmvpn.errors import Fault
from dmvpn.linux.routes import RouteKind, RouteRow, Shortcuts
from dmvpn.linux.routewatch import BestRoute, LinkChanged, LinkGone, NoRoute, RouteEvent, RouteWatch

Run = Callable[..., str]


SITE = ip_network("10.2.0.0/16")
HUB = ip_address("10.255.1.1")
SPOKE = ip_address("10.255.1.2")


@pytest.mark.kernel
def test_a_shortcut_is_installed_replaced_and_removed(tap: str, ip: Run, open_tap: Callable[[str], int]) -> None:
    queue = open_tap(tap)  # gives the TAP its carrier
    ip("link", "add", "other", "type", "veth", "peer", "name", "far")
    for device in ("other", "far"):
        ip("link", "set", device, "up")
    bgp = ("10.2.0.0/16", "via", "10.255.1.1", "dev", tap, "onlink", "metric", "20", "protocol", "bgp")
    ip("route", "add", *bgp)
    with Shortcuts((tap,)) as shortcuts, Shortcuts(("other",)) as others:
        assert shortcuts.ours() == ()
        shortcuts.install(SITE, HUB, tap)
        shortcuts.install(SITE, SPOKE, tap, mtu_octets=1300)
        others.install(ip_network("10.9.0.0/16"), HUB, "other")
        assert ip("route", "show", "protocol", "redirect", "dev", tap).split() == (
            f"{SITE} via 10.255.1.2 metric 10 onlink mtu 1300".split()
        )
        assert shortcuts.ours() == (RouteRow(SITE, RouteKind.UNICAST, tap, SPOKE, 254, 1, 10),)
        assert "via 10.255.1.2" in ip("route", "get", "10.2.0.1"), "it goes before what routing has learned"
        shortcuts.remove(SITE, tap)
        shortcuts.remove(SITE, tap)
        assert shortcuts.ours() == ()
        assert "via 10.255.1.1" in ip("route", "get", "10.2.0.1"), "routing's own stays"
        assert [row.device for row in others.ours()] == ["other"], "another network's stays"
    os.close(queue)


@pytest.mark.kernel
def test_what_somebody_took_comes_back(tap: str, ip: Run, open_tap: Callable[[str], int]) -> None:
    queue = open_tap(tap)
    watch = RouteWatch()
    watch.start()
    other = ip_network("10.3.0.0/16")
    with Shortcuts((tap,)) as shortcuts:
        shortcuts.install(SITE, SPOKE, tap, mtu_octets=1300)
        shortcuts.install(other, SPOKE, tap)
        next_events(watch)
        assert watch.taken == 0
        assert shortcuts.mend() == 0
        ip("route", "del", "10.2.0.0/16", "proto", "redirect")
        next_events(watch)
        assert watch.taken == 1
        assert shortcuts.mend() == 1
        found = ip("route", "show", "10.2.0.0/16", "proto", "redirect")
        assert "via 10.255.1.2 dev tap0 metric 10 onlink mtu 1300" in found
        shortcuts.remove(other, tap)
        assert shortcuts.mend() == 0
        assert ip("route", "show", "10.3.0.0/16") == "", "what was removed stays away"
    watch.close()
    os.close(queue)


@pytest.mark.kernel
def test_a_longer_prefix_goes_before_a_shortcut(tap: str, ip: Run, open_tap: Callable[[str], int]) -> None:
    queue = open_tap(tap)
    ip("route", "add", "10.2.7.0/24", "via", "10.255.1.1", "dev", tap, "onlink", "metric", "20", "protocol", "bgp")
    with Shortcuts((tap,)) as shortcuts:
        shortcuts.install(SITE, SPOKE, tap)
        assert "via 10.255.1.1" in ip("route", "get", "10.2.7.1")
        assert "via 10.255.1.2" in ip("route", "get", "10.2.8.1")
    os.close(queue)


@pytest.mark.kernel
@pytest.mark.parametrize(("prefix", "hub"), [("10.2.0.0/16", "10.255.1.1"), ("fd00:2::/48", "fd00:255:1::1")])
def test_somebody_elses_route_is_never_replaced(
    tap: str, ip: Run, open_tap: Callable[[str], int], prefix: str, hub: str
) -> None:
    queue = open_tap(tap)
    ip("link", "add", "other", "type", "veth", "peer", "name", "far")
    for device in ("other", "far"):
        ip("link", "set", device, "up")
    site, gateway = ip_network(prefix), ip_address(hub)
    with Shortcuts((tap,)) as shortcuts, Shortcuts(("other",)) as others:
        ip("route", "add", prefix, "via", hub, "dev", tap, "onlink", "metric", "10", "protocol", "static")
        with pytest.raises(Fault, match="somebody else's route has this prefix with the metric 10"):
            shortcuts.install(site, gateway, tap)
        shortcuts.remove(site, tap)
        assert "metric 10" in ip(f"-{site.version}", "route", "show", prefix)
        ip("route", "del", prefix, "metric", "10", "proto", "static")
        others.install(site, gateway, "other")
        with pytest.raises(Fault, match="somebody else's route"):
            shortcuts.install(site, gateway, tap)
        shortcuts.remove(site, tap)
        assert [row.prefix for row in others.ours()] == [site], "another network's shortcut"
    os.close(queue)


@pytest.mark.kernel
def test_an_ipv6_shortcut(tap: str, ip: Run) -> None:
    site, gateway = ip_network("fd00:2::/48"), ip_address("fd00:255:1::2")
    ip("route", "add", "fd00:2::/48", "via", "fd00:255:1::1", "dev", tap, "onlink", "metric", "20", "protocol", "bgp")
    with Shortcuts((tap,)) as shortcuts:
        shortcuts.install(site, gateway, tap)
        shortcuts.install(site, ip_address("fd00:255:1::3"), tap)
        (row,) = shortcuts.ours()
        assert (row.prefix, row.gateway, row.device) == (site, ip_address("fd00:255:1::3"), tap)
        assert "via fd00:255:1::3" in ip("route", "get", "fd00:2::1")
        shortcuts.remove(site, tap)
        assert shortcuts.ours() == ()
        assert "via fd00:255:1::1" in ip("route", "get", "fd00:2::1")


@pytest.mark.kernel
def test_the_kernels_words_are_in_the_fault(tap: str, ip: Run) -> None:
    ip("link", "set", tap, "down")
    with (
        Shortcuts((tap,)) as shortcuts,
        pytest.raises(Fault, match=r"route 10.2.0.0/16 via 10.255.1.1 dev tap0") as caught,
    ):
        shortcuts.install(SITE, HUB, tap)
    assert caught.value.what in ("Network is down", "Nexthop device is not up")


def next_events(watch: RouteWatch) -> tuple[RouteEvent, ...]:
    """Whatever the kernel announced until now; it announces before ip(8) returns."""
    assert select.select([watch], [], [], 5)[0]
    return watch.read()


def best(events: tuple[RouteEvent, ...], prefix: str) -> list[RouteEvent]:
    wanted = ip_network(prefix)
    return [
        event
        for event in events
        if (isinstance(event, BestRoute) and event.row.prefix == wanted)
        or (isinstance(event, NoRoute) and event.prefix == wanted)
    ]


@pytest.mark.kernel
def test_the_watch_tells_links_and_best_routes(tap: str, ip: Run) -> None:
    ip("route", "add", "10.2.0.0/16", "via", "10.255.1.1", "dev", tap, "onlink", "metric", "20", "protocol", "186")
    ip("route", "add", "unreachable", "10.2.0.0/16", "metric", "4278198272")
    ip("route", "add", "10.3.0.0/16", "dev", tap, "table", "4201")
    ip("route", "add", "10.5.0.0/16", "dev", tap, "protocol", "redirect")
    watch = RouteWatch()
    events = watch.start()
    assert {event.link.name for event in events if isinstance(event, LinkChanged)} >= {"lo", tap}
    (found,) = best(events, "10.2.0.0/16")
    assert isinstance(found, BestRoute)
    assert found.row == RouteRow(SITE, RouteKind.UNICAST, tap, HUB, 254, 186, 20)
    assert best(events, "10.3.0.0/16") == [], "not in a table that is watched"
    assert best(events, "10.5.0.0/16") == [], "a shortcut is what follows from routes"
    (local,) = best(events, "10.255.1.11/32")
    assert isinstance(local, BestRoute)
    assert local.row.kind is RouteKind.LOCAL
    assert watch.read() == ()
    watch.close()


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("prefix", "hops"),
    [
        pytest.param("10.2.0.0/16", ("10.255.1.1", "10.255.1.2", "10.255.1.3"), id="IPv4"),
        pytest.param("fd00:2::/64", ("fe80::1", "fe80::2", "fe80::3"), id="IPv6"),
    ],
)
def test_the_watch_knows_every_next_hop_of_a_route(
    tap: str, ip: Run, open_tap: Callable[[str], int], prefix: str, hops: tuple[str, ...]
) -> None:
    queue = open_tap(tap)
    ip("address", "add", "fe80::11/64", "dev", tap, "nodad")
    family = "-6" if ":" in prefix else "-4"

    def change(verb: str, *through: str) -> None:
        words = [word for hop in through for word in ("nexthop", "via", hop, "dev", tap, "onlink")]
        ip(family, "route", verb, prefix, "metric", "20", "protocol", "ospf", *words)

    watch = RouteWatch()
    watch.start()

    def known() -> tuple[str, ...]:
        next_events(watch)
        row = watch.best(ip_network(prefix))
        fresh = RouteWatch()
        fresh.start()
        assert fresh.best(ip_network(prefix)) == row, "what was told of changes is what there is"
        fresh.close()
        return () if row is None else tuple(map(str, (row.gateway, *row.more)))

    change("add", *hops[:2])
    assert known() == hops[:2]
    change("replace", *hops)
    assert known() == hops
    change("replace", hops[1])
    assert known() == (hops[1],)
    if family == "-6":
        change("append", hops[2])
        assert known() == hops[1:]
        ip(family, "route", "del", prefix, "via", hops[1], "dev", tap, "metric", "20")
        assert known() == (hops[2],)
        ip(family, "route", "append", prefix, "via", hops[0], "dev", tap, "metric", "20", "protocol", "ospf")
        assert sorted(known()) == [hops[0], hops[2]], "in the table's order, whatever that is"
    else:
        change("append", *hops[:2])
        assert known() == (hops[1],), "what was there first stays the way"
        ip(family, "route", "del", prefix, "via", hops[1], "dev", tap, "metric", "20")
        assert known() == hops[:2]
    ip(family, "route", "del", prefix, "metric", "20")
    assert known() == ()
    watch.close()
    os.close(queue)


@pytest.mark.kernel
def test_the_watch_follows_the_best_of_several(tap: str, ip: Run) -> None:
    watch = RouteWatch()
    watch.start()
    ip("route", "add", "unreachable", "10.2.0.0/16", "metric", "400")
    ip("route", "add", "10.2.0.0/16", "via", "10.255.1.1", "dev", tap, "onlink", "metric", "20")
    (event,) = best(next_events(watch), "10.2.0.0/16")
    assert isinstance(event, BestRoute)
    assert event.row.metric == 20

    ip("route", "replace", "10.2.0.0/16", "via", "10.255.1.2", "dev", tap, "onlink", "metric", "20")
    (event,) = best(next_events(watch), "10.2.0.0/16")
    assert isinstance(event, BestRoute)
    assert event.row.gateway == ip_address("10.255.1.2")

    ip("route", "add", "10.2.0.0/16", "via", "10.255.1.3", "dev", tap, "onlink", "metric", "10", "protocol", "redirect")
    assert next_events(watch) == (), "a shortcut"
    ip("route", "del", "10.2.0.0/16", "metric", "10")
    assert next_events(watch) == ()

    ip("route", "del", "10.2.0.0/16", "metric", "20")
    (event,) = best(next_events(watch), "10.2.0.0/16")
    assert isinstance(event, BestRoute)
    assert event.row.kind is RouteKind.UNREACHABLE

    ip("route", "del", "unreachable", "10.2.0.0/16")
    assert best(next_events(watch), "10.2.0.0/16") == [NoRoute(SITE)]
    watch.close()


@pytest.mark.kernel
def test_routes_that_vanish_without_a_word_are_noticed(tap: str, ip: Run) -> None:
    ip("route", "add", "10.2.0.0/16", "via", "10.255.1.1", "dev", tap, "onlink")
    ip("addr", "add", "10.255.1.12/32", "dev", tap)  # the last address of a device takes all its routes with it
    ip("route", "add", "10.3.0.0/16", "dev", "lo", "src", "10.255.1.11")
    ip("route", "add", "10.4.0.0/16", "dev", "lo")
    watch = RouteWatch()
    watch.start()
    ip("addr", "del", "10.255.1.11/32", "dev", tap)
    assert best(next_events(watch), "10.3.0.0/16") == [NoRoute(ip_network("10.3.0.0/16"))]
    ip("link", "set", tap, "down")
    events = next_events(watch)
    assert best(events, "10.2.0.0/16") == [NoRoute(SITE)]
    assert [event.link.up for event in events if isinstance(event, LinkChanged)] == [False]
    ip("link", "set", tap, "name", "tap9")
    assert watch.link("tap9") is None
    next_events(watch)
    assert watch.link("tap9") is not None
    ip("link", "del", "tap9")
    assert [event.link.name for event in next_events(watch) if isinstance(event, LinkGone)] == ["tap9"]
    assert watch.best(ip_network("10.4.0.0/16")) is not None
    watch.close()


@pytest.mark.kernel
def test_a_removed_next_hop_object_takes_its_routes(tap: str, ip: Run, open_tap: Callable[[str], int]) -> None:
    queue = open_tap(tap)  # the kernel refuses next hop objects on a device without carrier
    ip("nexthop", "add", "id", "7", "via", "10.255.1.1", "dev", tap, "onlink")
    ip("route", "add", "10.2.0.0/16", "nhid", "7")
    watch = RouteWatch()
    watch.start()
    row = watch.best(SITE)
    assert row is not None
    assert (row.gateway, row.device, row.nexthop_id) == (HUB, tap, 7)
    ip("nexthop", "del", "id", "7")
    assert best(next_events(watch), "10.2.0.0/16") == [NoRoute(SITE)]
    watch.close()
    os.close(queue)


@pytest.mark.kernel
def test_after_an_overflow_the_tables_are_read_again(tap: str, tmp_path: Path, ip: Run) -> None:
    watch = RouteWatch()
    watch.start()
    watch._events.socket.setsockopt(1, 33, 1)  # SO_RCVBUFFORCE: the least there is
    batch = tmp_path / "batch"
    batch.write_text("".join(f"route add 10.{high}.{low}.0/24 dev tap0\n" for high in (40, 41) for low in range(200)))
    ip("-batch", str(batch))
    assert sum(isinstance(event, BestRoute) for event in next_events(watch)) == 400
    assert watch.overflows == 1
    watch.close()
