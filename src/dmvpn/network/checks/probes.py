"""How uplinks are watched: settings that can never say anything, or say it wrongly."""

from collections.abc import Iterator
from ipaddress import IPv4Address

from dmvpn.errors import Problem
from dmvpn.network.model import Network, Uplink
from dmvpn.network.places import Place, places
from dmvpn.network.source import Key
from dmvpn.network.uplink_model import ProbeTimes

BROADCAST = IPv4Address("255.255.255.255")
ONE_LOST = 0.999  # of the window; shares are decimal


def probe_targets(network: Network) -> Iterator[Problem]:
    """Targets that say nothing of the ISP."""
    for place, name, uplink, key in _uplinks(network):
        own = {given.ip for other in place.router.uplinks.values() for given in other.address}
        families = _families(uplink)
        internal = (*network.prefixes, network.transport)
        seen: set[str] = set()
        for index, target in enumerate(uplink.probes):
            where: Key = (*key, "probes", index)
            address = target.address
            if any(address in prefix for prefix in internal):
                what = f"{address} is internal: no ISP leads there"
                yield Problem(where, what, "use an address in the Internet that answers")
            elif address in own:
                yield Problem(where, f"{address} is the router's own: it always answers", "use one beyond the ISP")
            elif address.version not in families:
                what = f"{address} cannot be asked over {name}, which has no IPv{address.version}"
                yield Problem(where, what, f"use an IPv{min(families)} address")
            elif address.is_multicast or address.is_unspecified or address.is_loopback or address == BROADCAST:
                yield Problem(where, f"{address} is no single host's", "use an address in the Internet that answers")
            elif str(target) in seen:
                yield Problem(where, f"{target} is named twice", "name each target once")
            elif address in uplink.gateway and len(uplink.probes) == 1:
                what = f"{address} is the gateway: it answers too when the ISP behind it is cut off"
                yield Problem(where, what, "add a target beyond the ISP", warning=True)
            seen.add(str(target))


def probe_counts(network: Network) -> Iterator[Problem]:
    """Numbers that no round can reach."""
    for _place, name, uplink, key in _uplinks(network):
        times, targets = uplink.probe, len(uplink.probes)
        if targets and times.required > targets:
            what = f"{times.required} targets must answer, and {name} has {targets}"
            yield Problem((*key, "probe", "required"), what, f"use at most {targets}, or add probes")
        if times.answers > times.attempts:
            what = f"{times.answers} answers are wanted of {times.attempts} attempts"
            yield Problem((*key, "probe", "answers"), what, f"use at most {times.attempts}")
        if times.timeout <= 0:
            yield Problem((*key, "probe", "timeout"), "nobody answers in no time", "write something like 800ms")
        yield from _bands(times, (*key, "probe"))
        for what, worst, good in (
            ("loss", times.max_loss, times.good_loss),
            ("latency", times.max_latency, times.good_latency),
        ):
            if good is not None and (worst is None or good > worst):
                there = "there is no" if worst is None else "it is more than"
                fix = f"write max-{what} too" if worst is None else f"use at most max-{what}"
                yield Problem((*key, "probe", f"good-{what}"), f"{there} max-{what}", fix)


def _bands(times: ProbeTimes, key: Key) -> Iterator[Problem]:
    """What a good link cannot keep to, and what none can ever miss."""
    if times.max_loss is not None and times.max_loss * times.window < ONE_LOST:
        what = f"one lost packet of {times.window} is more already, and any link loses one"
        yield Problem((*key, "max-loss"), what, f"use at least {1 / times.window:.1%}, such as 20%, or a larger window")
    for word, latency in (("max", times.max_latency), ("good", times.good_latency)):
        if latency is not None and latency <= 0:
            yield Problem((*key, f"{word}-latency"), "no answer is that fast", "write something like 500ms")
    if times.max_latency is not None and times.max_latency >= times.timeout > 0:
        what = f"no answer counts that takes longer than the timeout of {times.timeout * 1000:g} ms"
        yield Problem((*key, "max-latency"), what, "use less, or a longer timeout")
    if "again" in times.model_fields_set and times.again > times.interval:
        what = f"rounds follow each other every {times.interval:g} s anyway"
        yield Problem((*key, "again"), what, "use at most the interval")


def probe_times(network: Network) -> Iterator[Problem]:
    for _place, _name, uplink, key in _uplinks(network):
        times = uplink.probe
        if uplink.probes and times.timeout > times.interval:
            what = f"the next round begins after {times.interval:g} s, when this one may still be answered"
            fix = f"use at most {times.interval:g}s, or a longer interval"
            yield Problem((*key, "probe", "timeout"), what, fix, warning=True)


def probe_majorities(network: Network) -> Iterator[Problem]:
    """A round that needs few answers, and no share of loss: an ISP that loses most packets is as good as any."""
    for _place, _name, uplink, key in _uplinks(network):
        times = uplink.probe
        lax = times.max_loss is None or times.max_loss >= 1
        if uplink.probes and lax and times.answers * 2 < times.attempts:
            lost = 1 - times.answers / times.attempts
            what = f"{times.answers} answers of {times.attempts} are enough, so it stays while it loses {lost:.0%}"
            yield Problem((*key, "probe", "answers"), what, "ask for more than half, or write max-loss", warning=True)


def probes_missing(network: Network) -> Iterator[Problem]:
    """Where another uplink could take over, one that nobody asks is up as long as its cable is."""
    for place, name, uplink, key in _uplinks(network):
        if "probe" in uplink.model_fields_set and not uplink.probes:
            what = f"probe says when, and {name} has no probes to send"
            yield Problem((*key, "probe"), what, "add probes: addresses beyond the ISP", warning=True)
        elif not uplink.probes and any(other.probes for other in place.router.uplinks.values()):
            what = f"{name} has no probes: it counts as up as long as it has carrier and address"
            yield Problem(key, what, "add probes: addresses beyond the ISP", warning=True)


def probes_of_none(network: Network) -> Iterator[Problem]:
    """Said once of a router: it is one decision."""
    for place in places(network):
        uplinks = place.router.uplinks.values()
        if (
            place.ours
            and len(uplinks) > 1
            and not any(uplink.probes or uplink.probe.model_fields_set for uplink in uplinks)
        ):
            what = f"no uplink of {place.name} has probes: one whose ISP is cut off keeps what it carries"
            fix = "add probes to each: addresses beyond the ISP"
            yield Problem((*place.key, "uplinks"), what, fix, warning=True)


def _families(uplink: Uplink) -> set[int]:
    """Those that it has or may get."""
    leased = [*([4] if uplink.dhcp or uplink.pppoe is not None else []), *([6] if uplink.autoconf else [])]
    return {*(given.version for given in uplink.address), *leased} or {4, 6}


def uplink_weights(network: Network) -> Iterator[Problem]:
    for place, name, uplink, key in _uplinks(network):
        sharing = [other for other in place.router.uplinks.values() if other.weight is not None]
        if uplink.weight is not None and len(sharing) == 1:
            what = f"{name} is the only uplink with a weight, so there is nothing to share"
            yield Problem((*key, "weight"), what, "give another one a weight too, or remove the line", warning=True)


def _uplinks(network: Network) -> Iterator[tuple[Place, str, Uplink, Key]]:
    for place in places(network):
        if place.ours:
            for name, uplink in place.router.uplinks.items():
                yield place, name, uplink, (*place.key, "uplinks", name)


CHECKS = (probe_targets, probe_counts, probe_times, probe_majorities, probes_missing, probes_of_none, uplink_weights)
