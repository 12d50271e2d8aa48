"""FRR's nhrpd as hub: a spoke of ours and one of theirs register, reach each other, and find a direct way."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from mixed_lab import PASSWORD, WRONG_PASSWORD, Kind, Mixed, held, needs_frr10, until

from dmvpn.nhrp.conformance.cases import CASES

LANS = {"frh": "10.1.0.1", "par1": "10.1.1.1", "frr1": "10.1.2.1"}
HUB, OURS, THEIRS = "10.255.1.1", "10.255.1.11", "10.255.1.12"
PAGE = Path(__file__).parents[2] / "docs" / "interop.md"
CONFORM_S = 1200.0
with_frr10 = pytest.param(Kind.FRR10, marks=needs_frr10)


@pytest.fixture(scope="module", params=[Kind.IPSEC, Kind.CLEAR, with_frr10])
def kind(request: pytest.FixtureRequest) -> Kind:
    return Kind(request.param)


@pytest.fixture(scope="module")
def mixed(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mixed]:
    with held("their-hub", LANS, tmp_path_factory.mktemp("lab"), kind) as lab:
        yield lab


def test_both_spokes_register(mixed: Mixed) -> None:
    clients = {OURS: "198.51.100.2", THEIRS: "198.51.100.6"}
    until("both in the hub's cache", lambda: clients.keys() <= mixed.nhrp_cache("frh").keys(), within_s=60)
    cache = mixed.nhrp_cache("frh")
    assert {client: cache[client]["nbma"] for client in clients} == clients
    assert {cache[client]["type"] for client in clients} == {"dynamic"}


def test_our_spoke_has_the_hub_and_its_routes(mixed: Mixed) -> None:
    until("the hub is up", lambda: [hub.state for hub in mixed.status("par1").hubs] == ["up"], within_s=60)
    until("BGP's routes", lambda: f"via {HUB}" in mixed.routes("par1"), within_s=60)
    assert until("a ping to the hub's LAN", lambda: mixed.ping("par1", "frh", 3) == 3, within_s=60)


@pytest.mark.parametrize(("source", "target"), [("par1", "frr1"), ("frr1", "par1")])
def test_lan_reaches_lan(mixed: Mixed, source: str, target: str) -> None:
    until("BGP's routes", lambda: f"via {HUB}" in mixed.routes(source), within_s=60)
    assert until("a ping", lambda: mixed.ping(source, target) == 5, within_s=60)


def test_a_shortcut_from_ours_to_theirs(mixed: Mixed) -> None:
    mixed.shortcut_of_ours("par1", "frr1", "10.1.2.0/24", THEIRS)


def test_a_shortcut_from_theirs_to_ours(mixed: Mixed) -> None:
    mixed.shortcut_of_theirs("frr1", "par1", "10.1.1.0/24", OURS)


def test_esp_is_there_when_the_file_says_so(mixed: Mixed, kind: Kind) -> None:
    """Transport mode towards everybody: nobody here but one is ours."""
    modes = {router: set(mixed.child_sas(router)) for router in ("frh", "par1")}
    assert modes == {router: set() if kind is Kind.CLEAR else {"transport"} for router in modes}


def of_the_page(column: int) -> dict[str, str]:
    """FRR's verdict by case, as docs/interop.md has it."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in PAGE.read_text().splitlines() if "|" in line]
    cases = {case.name for case in CASES}
    return {row[0]: row[column] for row in rows if row[0] in cases}


@pytest.mark.parametrize(
    ("kind", "column"),
    [
        pytest.param(Kind.CLEAR, 3, id="clear-FRR 8.4"),
        pytest.param(Kind.FRR10, 4, id="frr10-FRR 10.3", marks=needs_frr10),
    ],
    indirect=["kind"],
    scope="module",
)
def test_frrs_verdicts_are_those_of_the_page(mixed: Mixed, column: int) -> None:
    """`dmvpn nhrp conform` from our router; the registration and the way are as before when it is over."""
    until("a way through the hub", lambda: mixed.ping("par1", "frr1", 3) == 3, within_s=90)
    words = ("dmvpn", "nhrp", "conform", HUB, "--beyond", THEIRS, "--yes", "--json")
    said = mixed.run("par1", *words, timeout_s=CONFORM_S)
    rows = json.loads(said)
    verdicts = {row["case"]: row["verdict"] for row in rows}
    page = of_the_page(column)
    assert verdicts == page, [row for row in rows if row["verdict"] != page.get(row["case"])]
    until("the registration is back", lambda: OURS in mixed.nhrp_cache("frh"), within_s=60)
    assert until("a ping as before", lambda: mixed.ping("par1", "frr1", 3) == 3, within_s=60)


@pytest.mark.parametrize("kind", [with_frr10], indirect=True, scope="module")
def test_frr_refuses_a_wrong_password_and_both_say_why(mixed: Mixed) -> None:
    until("the hub is up", lambda: [hub.state for hub in mixed.status("par1").hubs] == ["up"], within_s=60)
    mixed.set_password("frh", WRONG_PASSWORD)
    until("the hub's refusal", lambda: mixed.status("par1").hubs[0].state != "up", within_s=120)
    assert "error 11" in mixed.status("par1").hubs[0].why  # RFC 2332 5.2.7: authentication failure
    assert "From 198.51.100.2: error: authentication failure" in mixed.nhrpd_said("frh")
    mixed.set_password("frh", PASSWORD)
    until("the hub is up", lambda: [hub.state for hub in mixed.status("par1").hubs] == ["up"], within_s=120)
