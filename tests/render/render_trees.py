"""Plans of the examples and of the networks beside the tests, and trees on disk as apply stages them."""

from functools import cache
from pathlib import Path

from dmvpn.network.compile import compile_plan, routers, secret_files
from dmvpn.network.loading import load
from dmvpn.network.model import Network
from dmvpn.network.plan import Plan
from dmvpn.render.engines import render_all
from dmvpn.render.result import Check

REPOSITORY = Path(__file__).parents[2]


@cache
def _network(example: str) -> Network:
    path = REPOSITORY / "examples" / f"{example}.yaml"
    if not path.exists():
        path = Path(__file__).parent / "networks" / path.name
    return load(path.read_text(), path.name)


def example_routers(example: str) -> tuple[str, ...]:
    return routers(_network(example))


def example_plan(example: str, router: str) -> Plan:
    network = _network(example)
    secrets = {path: b"not-one" for path in secret_files(network, router)}
    return compile_plan(network, router, secrets=secrets)


def stage(plan: Plan, tree: Path) -> tuple[Check, ...]:
    """Write what all engines render for `plan` below `tree`; their checks back."""
    checks: list[Check] = []
    for part in render_all(plan):
        checks += part.checks
        for file in part.files:
            path = tree / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(file.text)
            path.chmod(file.mode)
    return tuple(checks)
