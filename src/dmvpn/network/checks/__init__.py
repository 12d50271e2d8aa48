"""What a network must be beyond its types. A check yields every problem it finds, and passes over those of others."""

from collections.abc import Callable, Iterator, Mapping

from dmvpn.errors import Problem
from dmvpn.network.checks import (
    addresses,
    clouds,
    interfaces,
    lab,
    links,
    policy,
    policy_gaps,
    policy_rules,
    probes,
    references,
    routing,
    security,
    services,
    sites,
    vouched,
)
from dmvpn.network.model import Network

Check = Callable[[Network], Iterator[Problem]]

CHECKS: tuple[Check, ...] = (
    *references.CHECKS,
    *addresses.CHECKS,
    *sites.CHECKS,
    *links.CHECKS,
    *interfaces.CHECKS,
    *probes.CHECKS,
    *clouds.CHECKS,
    *vouched.CHECKS,
    *routing.CHECKS,
    *security.CHECKS,
    *services.CHECKS,
    *policy.CHECKS,
    *policy_rules.CHECKS,
    *policy_gaps.CHECKS,
    *lab.CHECKS,
)


def problems(network: Network, secrets: Mapping[str, bytes]) -> Iterator[Problem]:
    """Every problem of every check; the caller puts them in the file's order."""
    for check in CHECKS:
        yield from check(network)
    yield from security.secret_lengths(network, secrets)
