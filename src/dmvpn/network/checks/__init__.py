"""What a network must be beyond its types. Each check yields the problems it finds; the order is the file's."""

from collections.abc import Iterator, Mapping

from dmvpn.errors import Problem
from dmvpn.network.model import Network


def problems(network: Network, secrets: Mapping[str, bytes]) -> Iterator[Problem]:
    """Every problem of every check."""
    yield from ()
