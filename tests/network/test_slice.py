"""The slice of one router: a network file of its own, the same Plan, and nothing of others that it need not know."""

from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmvpn.errors import WrongInput
from dmvpn.network.compile import compile_plan, routers, secret_files
from dmvpn.network.loading import check, load
from dmvpn.network.model import Network
from dmvpn.network.plan import Plane
from dmvpn.network.slice import slice_secrets, slice_text
from dmvpn.network.source import read
from dmvpn.network.writing import text_of

ROOT = Path(__file__).parents[2]
FILES = sorted(
    path
    for pattern in ("examples/*.yaml", "tests/*/networks/*.yaml", "tests/lab/fail_closed.yaml", "bench/hub.yaml")
    for path in ROOT.glob(pattern)
    if "\nsteps:" not in path.read_text()
)
PLANES = ((Plane.USERSPACE,), (Plane.KERNEL, Plane.USERSPACE))


def network_of(text: str) -> Network:
    return load(text, "network.yaml")


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=named)
def test_a_slice_gives_the_plan_of_the_whole_file(path: Path) -> None:
    text = path.read_text()
    network = network_of(text)
    secrets = dict.fromkeys((name for router in routers(network) for name in secret_files(network, router)), b"secret")
    for router in routers(network):
        part = slice_text(read(text, "network.yaml").values, network, router)  # type: ignore[arg-type]
        assert [str(finding) for finding in check(part, f"{router}.yaml") if not finding.warning] == [], part
        for planes in PLANES:
            whole, own = (
                compile_plan(each, router, planes=planes, secrets=secrets) for each in (network, network_of(part))
            )
            assert own == whole, part


@pytest.mark.parametrize("path", FILES, ids=named)
def test_what_is_written_is_read_back(path: Path) -> None:
    values = read(path.read_text(), "network.yaml").values
    assert isinstance(values, dict)
    assert read(text_of(values), "again").values == values


SECRETIVE = """
version: 1
network: acme
domain: example.net
prefixes: [10.0.0.0/8]
crypto: {modern: {rekey: 1h}, unused: {rekey: 2h}}
clouds:
  blue: {overlay: [10.255.1.0/24], crypto: modern, nhrp: {secret: {file: secrets/blue}}}
  green: {overlay: [10.255.2.0/24], gre-key: 2, crypto: modern, nhrp: {secret: {file: secrets/green}}}
sites:
  hq:
    asn: 65000
    networks: {vault: {port: eth1, prefix: 10.1.77.0/24}}
    routers:
      hq1:
        uplinks:
          isp: {port: eth0, pppoe: {user: u@hq, password: {file: secrets/hq-isp}}, public: 192.0.2.2}
          spare: {port: eth5, address: [203.0.113.9/30], gateway: [203.0.113.10], probes: [198.51.100.99]}
        tunnels:
          green: {role: hub, address: [10.255.2.1], over: [isp]}
          blue: {role: hub, address: [10.255.1.1], over: [isp]}
  paris:
    asn: 65001
    networks: {lan: {port: eth1, prefix: 10.1.1.0/24}}
    routers:
      par1:
        uplinks: {isp1: {port: eth0, pppoe: {user: u@par, password: {file: secrets/par-isp}}}}
        tunnels: {blue: {address: [10.255.1.11]}}
  oslo:
    asn: 65002
    networks: {lan: {port: eth1, prefix: 10.1.2.0/24}}
    routers:
      osl1:
        uplinks: {isp1: {port: eth0, dhcp: true}}
        tunnels: {blue: {address: [10.255.1.12]}, green: {address: [10.255.2.12]}}
lab: {wan: {delay: 20ms}}
"""


def test_a_slice_knows_nothing_that_the_router_need_not_know() -> None:
    network = network_of(SECRETIVE)
    part = slice_text(read(SECRETIVE, "x").values, network, "par1")  # type: ignore[arg-type]
    for private in ("oslo", "osl1", "10.1.77", "vault", "hq-isp", "u@hq", "spare", "green", "unused", "lab", "99"):
        assert private not in part.replace("lan", ""), private
    assert slice_secrets(network, "par1") == ("secrets/blue", "secrets/par-isp")


def test_another_site_changes_no_others_slice() -> None:
    more = SECRETIVE.replace(
        "  oslo:",
        "  rome: {asn: 65009, routers: {rom1: {uplinks: {w: {port: eth0, dhcp: true}},"
        " tunnels: {blue: {address: [10.255.1.19]}}}}}\n  oslo:",
    )
    parts = [slice_text(read(text, "x").values, network_of(text), "par1") for text in (SECRETIVE, more)]  # type: ignore[arg-type]
    assert parts[0] == parts[1]


def test_a_router_that_the_file_does_not_have_has_no_slice() -> None:
    with pytest.raises(WrongInput, match="no router is called rome"):
        slice_text({}, network_of(SECRETIVE), "rome")


LEAVES = st.one_of(
    st.text(max_size=20),
    st.integers(-(10**17), 10**17),
    st.booleans(),
    st.sampled_from(
        ["1e5", "-", "yes", "null", "~", "a: b", "#x", "1.5", ".5", "0x10", "<<", "[", "fd00::/8", "1.", "+1"]
    ),
)
VALUES = st.recursive(
    LEAVES,
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(min_size=1, max_size=8), below, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(min_size=1, max_size=8), VALUES, min_size=1, max_size=5))
def test_whatever_is_written_is_read_back(values: dict[str, object]) -> None:
    odd = [char for char in repr(values) if not char.isprintable()]
    if odd:
        return
    assert read(text_of(values), "again").values == values


def test_the_planes_of_the_table_are_all_there_are() -> None:
    assert {plane for planes in PLANES for plane in planes} == set(Plane)
    assert len(list(product(FILES, PLANES))) > 20
