"""Routes and rules of several uplinks, from their states: what should be there, for dmvpn.linux.uplink_ways to bring.

With one uplink there is nothing to choose: its default route is left alone, whatever the probes say.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from dmvpn.daemon.settings import Settings, UplinkSettings
from dmvpn.linux.routes import TABLE_MAIN, RouteRow
from dmvpn.linux.uplink_tables import SHARED_METRIC, SOURCES_AFTER, TABLES, standing_rules
from dmvpn.linux.uplink_watch import DeviceFacts
from dmvpn.linux.uplink_ways import Hop, UplinkWays, Way, WayRule, everything
from dmvpn.uplink.choice import Candidate, Choice, choose

Address = IPv4Address | IPv6Address

# charon reads all tables and takes the lowest metric: main's own come first, these are for an address it is given.
TABLE_METRIC_FROM = 4096
LAST_METRIC = 4278198272  # as of internal prefixes: distance 255 for zebra
PROTOCOL_RA = 9


@dataclass(frozen=True, slots=True)
class Gateway:
    """The ISP's router; None: the whole Internet is on the link, as with PPP."""

    address: Address | None


@dataclass(frozen=True, slots=True)
class Standing:
    """One uplink now, in the file's order. Sources and gateways are by family."""

    settings: UplinkSettings
    candidate: Candidate
    facts: DeviceFacts | None
    sources: dict[int, Address]
    gateways: dict[int, Gateway]


class UplinkRoutes:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._several = len(settings.uplinks) > 1
        tables = [one.table for one in settings.uplinks] if self._several else []
        run = range(settings.uplink_tables, settings.uplink_tables + TABLES)
        self._ways = UplinkWays(settings.route_protocol, TABLE_MAIN, tables, run)
        self._is_alone = False  # and nothing is left of the time when it was one of several
        self.serving: tuple[str, ...] = ()  # have a default route in main now

    def close(self) -> None:
        self._ways.close()

    def gateways(
        self, uplink: UplinkSettings, facts: DeviceFacts | None, known: dict[int, Gateway]
    ) -> dict[int, Gateway]:
        """By family: the file's; else what somebody else's default route says; else what was known before."""
        found: dict[int, Gateway] = {address.version: Gateway(address) for address in reversed(uplink.gateways)}
        if uplink.gateways:
            return found
        found = dict(known)
        rows = sorted(facts.defaults if facts is not None else (), key=self._is_ours)
        for row in reversed(rows):
            version = row.prefix.version
            if not self._is_ours(row) or version not in found:
                found[version] = Gateway(row.gateway)
        return found

    def _is_ours(self, row: RouteRow) -> bool:
        return row.protocol == self._settings.route_protocol

    def bring(self, uplinks: Sequence[Standing]) -> None:
        """Raises Fault for what the kernel refuses; the rest is done."""
        choices = {version: _choice(uplinks, version) for version in (4, 6)}
        self.serving = tuple(dict.fromkeys(name for choice in choices.values() for name in choice.serving))
        if not self._several:
            self._leave_alone(uplinks)
            return
        kept = {row for one in uplinks for row in self._kept(one, choices)}
        ways = [way for one in uplinks for way in (*_of_main(one, choices, kept), *_of_table(one))]
        ways += [way for version in (4, 6) if (way := _shared(uplinks, choices[version], version)) is not None]
        rules = (*self._standing_rules(), *(rule for one in uplinks for rule in self._by_source(one)))
        try:
            self._ways.rule(rules)
        finally:
            self._ways.bring(ways)
        for one in uplinks:
            for row in one.facts.defaults if one.facts is not None else ():
                if not self._is_ours(row) and row not in kept and one.facts is not None:
                    version, index = row.prefix.version, one.facts.index
                    self._ways.withdraw(version, index, row.gateway, row.metric, row.protocol)

    def _leave_alone(self, uplinks: Sequence[Standing]) -> None:
        """Once: tables, rules and default routes of several that there were before this life."""
        if self._is_alone:
            return
        static = [(gateway.version, one.settings.metric) for one in uplinks for gateway in one.settings.gateways]
        indexes = [one.facts.index for one in uplinks if one.facts is not None]
        self._ways.forget(SHARED_METRIC, static, next(iter(indexes), 0))
        self._is_alone = True

    def _kept(self, one: Standing, choices: dict[int, Choice]) -> Iterator[RouteRow]:
        """Default routes that others put there and that say what we would: a router's advertisements come again."""
        for row in one.facts.defaults if one.facts is not None else ():
            as_ours = row.metric == one.settings.metric or row.protocol == PROTOCOL_RA
            if as_ours and not self._is_ours(row) and one.settings.name in choices[row.prefix.version].serving:
                yield row

    def _standing_rules(self) -> tuple[WayRule, ...]:
        settings = self._settings
        marks = [(one.table, one.mark) for one in settings.uplinks]
        return standing_rules(settings.uplink_priority, settings.uplink_mask, marks)

    def _by_source(self, one: Standing) -> Iterator[WayRule]:
        """What is sent from an address of the uplink leaves by it, or not at all."""
        priority = self._settings.uplink_priority + SOURCES_AFTER
        for address in one.facts.addresses if one.facts is not None else ():
            yield WayRule(priority, one.settings.table, address.version, source=address.ip)


def _choice(uplinks: Sequence[Standing], version: int) -> Choice:
    return choose([one.candidate for one in uplinks if version in one.gateways and version in one.sources])


def _of_main(one: Standing, choices: dict[int, Choice], kept: set[RouteRow]) -> Iterator[Way]:
    for version, gateway in one.gateways.items():
        if one.facts is None or one.settings.name not in choices[version].serving:
            continue
        if not any(row in kept and row.prefix.version == version for row in one.facts.defaults):
            hop = Hop(one.facts.index, gateway.address)
            yield Way(TABLE_MAIN, everything(version), (hop,), one.settings.metric)


def _of_table(one: Standing) -> Iterator[Way]:
    """Also of one that is offline: its probes go by it. Without a way out of its own nothing leaves by another."""
    table, facts = one.settings.table, one.facts
    for version in (4, 6):
        yield Way(table, everything(version), (), LAST_METRIC)
    if facts is None or not facts.up:
        return
    for address in facts.addresses:
        if address.network.prefixlen < address.max_prefixlen:
            yield Way(table, address.network, (Hop(facts.index, None),), 0, address.ip)
    for version, gateway in one.gateways.items():
        if version in one.sources:
            metric = TABLE_METRIC_FROM + one.settings.metric
            yield Way(table, everything(version), (Hop(facts.index, gateway.address),), metric)


def _shared(uplinks: Sequence[Standing], choice: Choice, version: int) -> Way | None:
    by_name = {one.settings.name: one for one in uplinks}
    hops = tuple(
        Hop(one.facts.index, one.gateways[version].address, weight)
        for name, weight in choice.shared
        if (one := by_name[name]).facts is not None
    )
    return Way(TABLE_MAIN, everything(version), hops, SHARED_METRIC) if len(hops) > 1 else None
