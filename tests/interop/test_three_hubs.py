"""Three hubs, two of ours and FRR's; one is lost. FRR's own redundancy scenario: traffic and the shortcut survive."""

from collections.abc import Iterator

import pytest
from mixed_lab import Mixed, held, until

LANS = {"hub1": "10.1.0.1", "hub2": "10.1.10.1", "frh3": "10.1.20.1", "par1": "10.1.1.1", "frr1": "10.1.2.1"}
HUBS = {"10.255.1.1": "192.0.2.2", "10.255.1.2": "192.0.2.6", "10.255.1.3": "192.0.2.10"}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mixed]:
    with held("three-hubs", LANS, tmp_path_factory.mktemp("lab")) as lab:
        yield lab


def test_each_spoke_has_three_hubs(mixed: Mixed) -> None:
    until("ours", lambda: [hub.state for hub in mixed.status("par1").hubs] == ["up"] * 3, within_s=90)

    def theirs() -> dict[str, str]:
        return {at: row["nbma"] for at, row in mixed.nhrp_cache("frr1").items() if row["type"] == "nhs"}

    until("theirs", lambda: theirs() == HUBS, within_s=90)


def test_a_shortcut_appears_and_survives_a_hub(mixed: Mixed) -> None:
    def direct() -> bool:
        """Both ways, and with an SA: FRR sends over its shortcut before its trap policy has one."""
        answered = mixed.ping("frr1", "par1", 6)
        there = mixed.nhrp_shortcuts("frr1").get("10.1.1.0/24") == "10.255.1.11"
        back = any("10.1.2.0/24 via 10.255.1.12" in line for line in mixed.routes("par1").splitlines())
        return there and back and answered == 6

    until("a shortcut both ways", direct, within_s=90)
    mixed.run("hub1", "ip", "link", "set", "eth0", "down")
    assert mixed.nhrp_shortcuts("frr1").get("10.1.1.0/24") == "10.255.1.11"
    assert mixed.ping("frr1", "par1", 10) >= 9


def test_both_notice_that_the_hub_is_gone_and_go_on(mixed: Mixed) -> None:
    def up() -> set[str]:
        return {hub.router for hub in mixed.status("par1").hubs if hub.state == "up"}

    until("ours", lambda: up() == {"hub2", "frh3"}, within_s=90)
    until("a ping by another hub", lambda: mixed.ping("par1", "hub2", 3) == 3, within_s=90)
    assert until("theirs by another hub", lambda: mixed.ping("frr1", "hub2", 3) == 3, within_s=90)


def test_a_shortcut_is_made_again_by_the_other_hubs(mixed: Mixed) -> None:
    mixed.run("par1", "dmvpn", "nhrp", "purge")

    def shortcut() -> bool:
        mixed.ping("par1", "frr1", 6)
        return any("10.1.2.0/24 via 10.255.1.12" in line for line in mixed.routes("par1").splitlines())

    assert until("a shortcut", shortcut, within_s=90)


def test_the_hub_comes_back(mixed: Mixed) -> None:
    mixed.run("hub1", "ip", "link", "set", "eth0", "up")
    mixed.run("hub1", "ip", "route", "replace", "default", "via", "192.0.2.1", "dev", "eth0", "metric", "100")
    until("ours", lambda: [hub.state for hub in mixed.status("par1").hubs] == ["up"] * 3, within_s=120)
