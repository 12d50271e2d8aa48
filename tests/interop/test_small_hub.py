"""Our hub with a spoke of FRR's and one of ours: in clear, and with FRR 10, IPsec and Cisco authentication.

With FRR 8 and IPsec test_our_hub.py has more of it.
"""

from collections.abc import Iterator

import pytest
from mixed_lab import PASSWORD, WRONG_PASSWORD, Kind, Mixed, held, until, with_frr10

LANS = {"hq1": "10.1.0.1", "par1": "10.1.1.1", "frr1": "10.1.2.1"}
HUB, OURS, THEIRS = "10.255.1.1", "10.255.1.11", "10.255.1.12"


@pytest.fixture(scope="module", params=[Kind.CLEAR, with_frr10])
def kind(request: pytest.FixtureRequest) -> Kind:
    return Kind(request.param)


@pytest.fixture(scope="module")
def mixed(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mixed]:
    with held("small-hub", LANS, tmp_path_factory.mktemp("lab"), kind) as lab:
        yield lab


def registered(mixed: Mixed) -> set[str]:
    return {row.name for row in mixed.status("hq1").peers if row.kind == "client" and row.layer == "UP"}


@pytest.mark.parametrize("spoke", ["par1", "frr1"])
def test_the_hub_and_its_spokes_reach_each_other(mixed: Mixed, spoke: str) -> None:
    until("it is registered", lambda: spoke in registered(mixed), within_s=90)
    assert until("a ping there", lambda: mixed.ping("hq1", spoke, 3) == 3, within_s=60)
    assert until("a ping back", lambda: mixed.ping(spoke, "hq1", 3) == 3, within_s=60)


def test_a_shortcut_from_ours_to_theirs(mixed: Mixed) -> None:
    mixed.shortcut_of_ours("par1", "frr1", "10.1.2.0/24", THEIRS)


def test_a_shortcut_from_theirs_to_ours(mixed: Mixed) -> None:
    mixed.shortcut_of_theirs("frr1", "par1", "10.1.1.0/24", OURS)


def test_esp_is_there_when_the_file_says_so(mixed: Mixed, kind: Kind) -> None:
    modes = {router: set(mixed.child_sas(router)) for router in ("hq1", "frr1")}
    theirs = set() if kind is Kind.CLEAR else {"transport"}
    assert modes == {"hq1": theirs | ({"tunnel"} if theirs else set()), "frr1": theirs}


@pytest.mark.parametrize("kind", [with_frr10], indirect=True, scope="module")
def test_we_refuse_a_wrong_password_and_both_say_why(mixed: Mixed) -> None:
    def refused() -> int:
        return mixed.status("hq1").clouds[0].drops.get("nhrp authentication", 0)

    until("it is registered", lambda: "frr1" in registered(mixed), within_s=90)
    assert refused() == 0
    mixed.set_password("frr1", WRONG_PASSWORD)
    until("a refusal", refused, within_s=120)
    until("its word of it", lambda: "From 192.0.2.2: error" in mixed.nhrpd_said("frr1"), within_s=60)
    until("its end here", lambda: "frr1" not in registered(mixed), within_s=120)
    mixed.set_password("frr1", PASSWORD)
    until("it is back", lambda: "frr1" in registered(mixed), within_s=120)
