"""Our hub on the kernel plane serves at once a userspace spoke, two kernel spokes behind one address, and nhrpd."""

from collections.abc import Iterator

import pytest
from mixed_lab import Mixed, held, until

LANS = {
    "hq1": "10.1.0.1",
    "use1": "10.1.1.1",
    "ker1": "10.1.2.1",
    "ker2": "10.1.3.1",
    "frr1": "10.1.4.1",
    "frr2": "10.1.5.1",
    "ope1": "10.1.6.1",
}
OURS = ("use1", "ker1", "ker2", "ope1")
THEIRS = ("frr1", "frr2")
OVERLAY = {"use1": "10.255.1.11", "ker1": "10.255.1.12", "ker2": "10.255.1.13", "frr1": "10.255.1.14"} | {
    "frr2": "10.255.1.15",
    "ope1": "10.255.1.16",
}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mixed]:
    with held("our-hub", LANS, tmp_path_factory.mktemp("lab")) as lab:
        yield lab


def test_every_spoke_registers(mixed: Mixed) -> None:
    def missing() -> set[str]:
        rows = mixed.status("hq1").peers
        return {*OURS, *THEIRS} - {row.name for row in rows if row.kind == "client" and row.layer == "UP"}

    until("every spoke", lambda: not missing(), within_s=90)


@pytest.mark.parametrize("spoke", [*OURS, *THEIRS])
def test_the_hub_reaches_every_spokes_network(mixed: Mixed, spoke: str) -> None:
    assert until("a ping", lambda: mixed.ping("hq1", spoke, 3) == 3, within_s=60)


@pytest.mark.parametrize("source", THEIRS[:1])
@pytest.mark.parametrize("target", [*OURS, "frr2"])
def test_a_foreign_spoke_and_every_other_reach_each_other(mixed: Mixed, source: str, target: str) -> None:
    assert until("a ping there", lambda: mixed.ping(source, target) == 5, within_s=60)
    assert until("a ping back", lambda: mixed.ping(target, source) == 5, within_s=60)


def test_a_shortcut_from_theirs_to_ours(mixed: Mixed) -> None:
    mixed.shortcut_of_theirs("frr1", "ope1", "10.1.6.0/24", OVERLAY["ope1"])


def test_a_shortcut_from_ours_to_theirs(mixed: Mixed) -> None:
    mixed.shortcut_of_ours("ope1", "frr2", "10.1.5.0/24", OVERLAY["frr2"])


def test_a_shortcut_of_theirs_expires_when_idle(mixed: Mixed) -> None:
    """FRR's own expectation (nhrp_topo): the shortcut appears with traffic and goes without."""
    prefix = "10.1.6.0/24"

    def found() -> bool:
        mixed.ping("frr1", "ope1", 4)
        return prefix in mixed.nhrp_shortcuts("frr1")

    until("a shortcut", found, within_s=90)
    until("it to expire", lambda: prefix not in mixed.nhrp_shortcuts("frr1"), within_s=120)
    assert mixed.ping("frr1", "ope1") == 5


def test_our_own_are_in_tunnel_mode_and_foreign_ones_in_transport_mode_at_once(mixed: Mixed) -> None:
    assert set(mixed.child_sas("hq1")) == {"tunnel", "transport"}
    # A userspace spoke that answers cannot do transport mode: the foreign charon falls back to a tunnel with it.
    assert "transport" in mixed.child_sas("frr1")
