"""Policies for tests: some zones, the usual services, and rules that are written here."""

from dataclasses import replace
from ipaddress import ip_network

from dmvpn.firewall import nft
from dmvpn.firewall.assembly import assemble
from dmvpn.firewall.catalogue import SERVICES
from dmvpn.firewall.policy import Action, Match, Policy, Rule, Zone
from dmvpn.firewall.ruleset import Hook, Ruleset

LAN, NET, DMZ = (
    Zone("lan", ("eth1", "eth2")),
    Zone("net", ("eth0",)),
    Zone("dmz", ("eth3",), (ip_network("10.3.0.0/24"),)),
)
NOTHING, EVERYWHERE, HUB = Zone("nothing", ()), Zone("everywhere"), Zone("hub", ("gre1",), route_back=True)
BASIC = Policy(zones=(LAN, NET, DMZ, NOTHING, EVERYWHERE, HUB), services=SERVICES)


def policy(*rules: Rule, **more: object) -> Policy:
    return replace(BASIC, rules=rules, **more)  # type: ignore[arg-type]


def rule(
    come: tuple[str, ...] | None = None,
    go: tuple[str, ...] | None = None,
    *,
    action: Action = Action.ACCEPT,
    **more: object,
) -> Rule:
    return Rule(Match(come, go, **more), action, "here")  # type: ignore[arg-type]


def lines_of(hook: Hook, written: Policy) -> list[str]:
    chain = assemble(written).chains.get(hook, ())
    return [line.strip() for line in nft.lines(Ruleset({hook: chain})) if "comment" in line]
