"""The demo network's lab section and Plans, as the lab's tests use them."""

from functools import cache
from pathlib import Path

from dmvpn.lab.derive import topology_of
from dmvpn.lab.topology import Topology
from dmvpn.network import compile as compiling
from dmvpn.network import loading
from dmvpn.network.model import Network
from dmvpn.network.plan import Plan

DEMO = Path(__file__).parents[2] / "examples" / "demo.yaml"


@cache
def demo() -> tuple[Network, tuple[Plan, ...]]:
    network = loading.load(DEMO.read_text(), DEMO.name)
    return network, tuple(compiling.compile_plan(network, router) for router in compiling.routers(network))


def demo_topology() -> Topology:
    network, plans = demo()
    return topology_of(network.lab, plans)
