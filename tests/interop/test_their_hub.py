"""FRR's nhrpd as hub: a spoke of ours and one of theirs register, reach each other, and find a direct way."""

from collections.abc import Iterator

import pytest
from mixed_lab import Mixed, held, until

LANS = {"frh": "10.1.0.1", "par1": "10.1.1.1", "frr1": "10.1.2.1"}


@pytest.fixture(scope="module", params=["ipsec", "clear"])
def mixed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mixed]:
    with held("their-hub", LANS, tmp_path_factory.mktemp("lab"), clear=request.param == "clear") as lab:
        yield lab


def test_both_spokes_register(mixed: Mixed) -> None:
    clients = {"10.255.1.11": "198.51.100.2", "10.255.1.12": "198.51.100.6"}
    until("both in the hub's cache", lambda: clients.keys() <= mixed.nhrp_cache("frh").keys(), within_s=60)
    cache = mixed.nhrp_cache("frh")
    assert {client: cache[client]["nbma"] for client in clients} == clients
    assert {cache[client]["type"] for client in clients} == {"dynamic"}


def test_our_spoke_has_the_hub_and_its_routes(mixed: Mixed) -> None:
    until("the hub is up", lambda: [hub.state for hub in mixed.status("par1").hubs] == ["up"], within_s=60)
    until("BGP's routes", lambda: "via 10.255.1.1" in mixed.routes("par1"), within_s=60)
    assert until("a ping to the hub's LAN", lambda: mixed.ping("par1", "frh", 3) == 3, within_s=60)


@pytest.mark.parametrize(("source", "target"), [("par1", "frr1"), ("frr1", "par1")])
def test_lan_reaches_lan(mixed: Mixed, source: str, target: str) -> None:
    until("BGP's routes", lambda: "via 10.255.1.1" in mixed.routes(source), within_s=60)
    assert until("a ping", lambda: mixed.ping(source, target) == 5, within_s=60)


def test_a_shortcut_from_ours_to_theirs(mixed: Mixed) -> None:
    def found() -> bool:
        mixed.ping("par1", "frr1", 8)
        return any("10.1.2.0/24 via 10.255.1.12" in line for line in mixed.routes("par1").splitlines())

    assert until("a shortcut", found, within_s=90)
    assert mixed.ping("par1", "frr1") == 5


def test_a_shortcut_from_theirs_to_ours(mixed: Mixed) -> None:
    def found() -> bool:
        mixed.ping("frr1", "par1", 8)
        return mixed.nhrp_shortcuts("frr1").get("10.1.1.0/24") == "10.255.1.11"

    assert until("a shortcut", found, within_s=90)
    assert mixed.ping("frr1", "par1") == 5


def test_esp_is_there_when_the_file_says_so(mixed: Mixed, request: pytest.FixtureRequest) -> None:
    """Transport mode towards everybody: nobody here but one is ours."""
    modes = {router: set(mixed.child_sas(router)) for router in ("frh", "par1")}
    clear = "clear" in request.node.callspec.id
    assert modes == {router: set() if clear else {"transport"} for router in modes}
