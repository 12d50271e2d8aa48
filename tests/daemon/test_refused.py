"""Peers whom nobody vouches for: their SAs end, each time they come back, and nobody else's do."""

import asyncio
import logging
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from security_cases import HIGH, LOW, PUBLIC, child, connected, sa, terminated, up
from test_foreign import NBMA, RIGA, node

from dmvpn.daemon import security as security_module
from dmvpn.daemon.ike import Ike
from dmvpn.daemon.orders import Up
from dmvpn.daemon.papers import Papers
from dmvpn.daemon.security import REFUSED_S, Security
from dmvpn.daemon.settings import ForeignSettings
from dmvpn.daemon.vouching import Vouching
from dmvpn.errors import Fault
from dmvpn.identity.claims import PREFIXES_LIMIT, Claims
from dmvpn.linux import ruleset
from dmvpn.linux.vici_client import IkeSa

TRANSPORT = IPv4Network("100.64.0.0/16")


def test_a_refused_peer_loses_all_its_sas_after_the_grace() -> None:
    security = Security(LOW)
    both = [sa("1"), sa("2", initiator=False)]
    security.observe(both, 10.0)
    assert security.refuse(up(), 10.0) == []
    assert security.next_settle() is not None
    assert security.refuse(up(), 10.0 + REFUSED_S - 0.01) == []
    assert terminated(security.refuse(up(), 10.0 + REFUSED_S)) == ["1", "2"]
    assert security.observe(both, 10.1 + REFUSED_S)[1][0].nbma == HIGH
    assert not security.is_refused(up())


def test_who_comes_back_is_ended_again() -> None:
    security = Security(LOW)
    for key, now in (("1", 0.0), ("2", 100.0)):
        assert security.observe([sa(key)], now)[0] == [up()]
        assert security.refuse(up(), now) == []
        assert terminated(security.refuse(up(), now + REFUSED_S)) == [key]
        security.observe([], now + REFUSED_S + 1)


def test_whose_certificate_is_listed_within_the_grace_keeps_its_sa() -> None:
    security = Security(LOW)
    security.observe([sa("1")], 0.0)
    security.refuse(up(), 0.0)
    security.admit(up())
    assert security.observe([sa("1")], REFUSED_S) == ([], [], [])
    assert security.next_settle() is None


def test_another_identity_at_the_same_address_is_let_alone() -> None:
    security = Security(LOW)
    security.observe([sa("1"), replace(sa("2"), remote_id="c.example.net")], 0.0)
    security.refuse(up(), 0.0)
    assert terminated(security.refuse(up(), REFUSED_S)) == ["1"]


def test_a_refused_sa_ends_though_a_newer_one_of_somebody_else_stands_there() -> None:
    security = Security(LOW, transport=IPv4Network("10.0.0.0/8"))
    security.observe([sa("1")], 0.0)
    security.refuse(up(), 0.0)
    both = [sa("1", age_s=3.0), replace(sa("2", age_s=0.0), remote_id="c.example.net")]
    assert security.observe(both, 1.0)[2] == []
    assert terminated(security.observe(both, REFUSED_S)[2]) == ["1"]
    security.observe(both, REFUSED_S)
    assert security.next_settle() is None


def test_a_refused_peer_is_called_with_the_back_off_of_one_that_does_not_answer() -> None:
    security = Security(LOW)
    security.want(HIGH, (PUBLIC,), 0.0)
    called = []
    for tick in range(0, 1000):
        now = tick / 10
        if connected(security.due(now)):
            called.append(now)
        key = str(len(called))
        security.observe([sa(key)], now)
        security.refuse(up(), now)
    assert called == [0.0, 3.2, 9.2, 21.2, 45.2, 75.2]


def test_charons_death_calls_no_refused_peer_back() -> None:
    security = Security(LOW)
    security.observe([sa("1")], 0.0)
    security.refuse(up(), 0.0)
    security.lost_charon()
    assert security.due(1.0) == []


# ---------------------------------------------------------------- transport addresses


@pytest.mark.parametrize(
    ("local", "mode", "counts"),
    [
        pytest.param("100.64.0.11/32[gre]", "TUNNEL", True, id="as ours do it"),
        pytest.param("100.64.0.11/32[gre]", "", True, id="a charon that does not tell the mode"),
        pytest.param("100.64.0.11/32[gre]", "TRANSPORT", False, id="transport mode"),
        pytest.param("198.51.100.2/32[gre]", "TRANSPORT", False, id="foreign, from an address in our range"),
        pytest.param("198.51.100.2/32[gre]", "TUNNEL", False, id="not to our transport address"),
        pytest.param("100.64.0.0/16[gre]", "TUNNEL", False, id="to more than ours"),
    ],
)
def test_a_transport_address_is_stood_for_by_our_own_kind_of_sa_alone(local: str, mode: str, *, counts: bool) -> None:
    security = Security(LOW, transport=TRANSPORT)
    one = sa("1", children=(replace(child(mode=mode), local_ts=(local,)),))
    ups, _, orders = security.observe([one], 0.0)
    assert [found.nbma for found in ups] == ([HIGH] if counts else [])
    assert terminated(orders) == ([] if counts else ["1"])
    assert terminated(security.observe([one], 1.0)[2]) == []


# ---------------------------------------------------------------- with charon


class Charon:
    """Lists SAs and keeps what it is told to end."""

    def __init__(self, *sas: IkeSa) -> None:
        self.sas = sas
        self.ended: list[str] = []

    def list_sas(self) -> tuple[IkeSa, ...]:
        return self.sas

    def peer_certificates(self) -> tuple[()]:
        return ()

    def authority_certificates(self) -> tuple[()]:
        return ()

    def terminate_now(self, unique_id: str) -> None:
        self.ended.append(unique_id)


def foreign_sa(key: str, nbma: IPv4Address, identity: str) -> IkeSa:
    selectors = replace(child(nbma, mode="TRANSPORT"), local_ts=("198.51.100.2/32[gre]",))
    return replace(sa(key, peer=nbma, children=(selectors,)), remote_id=identity)


def too_many() -> ForeignSettings:
    prefixes = tuple(ip_network((int(ip_address("10.0.0.0")) + (i << 8), 24)) for i in range(PREFIXES_LIMIT + 1))
    return replace(RIGA, router="big1", identity="big1.acme.example", nbma=None, prefixes=prefixes)


@pytest.mark.parametrize(
    ("nbma", "identity", "why"),
    [
        pytest.param("203.0.113.9", "hq1.acme.example", "the file does not name it", id="not in the file"),
        pytest.param("203.0.113.9", "big1.acme.example", "513 prefixes", id="in the file, with too many claims"),
        pytest.param("100.64.0.77", "hq1.acme.example", "no claims for this address", id="ours, without claims"),
    ],
)
def test_a_refused_peer_is_told_of_once_and_ended_and_the_others_stay(
    nbma: str, identity: str, why: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    read = node()
    read = replace(read, clouds=(replace(read.clouds[0], foreign=(RIGA, too_many())),))
    bad = foreign_sa("1", IPv4Address(nbma), identity)
    if IPv4Address(nbma) in read.transport_range:
        own = replace(child(nbma), local_ts=(f"{read.transport}/32[gre]",))
        bad = replace(bad, children=(own,))
    assert isinstance(NBMA, IPv4Address)
    charon: Any = Charon(bad, foreign_sa("2", NBMA, RIGA.identity))

    async def looks() -> tuple[Up, ...]:
        admitted: list[Claims] = []

        async def on_up(_up: Up, claims: Claims) -> None:
            admitted.append(claims)

        ike = Ike(read, Vouching(Papers(read.paths.pki)), on_up, lambda _down: None, lambda _nbma, _version: None)
        ike._session = charon
        await ike._look()
        await ike._look()
        assert charon.ended == []
        monkeypatch.setattr(security_module, "REFUSED_S", 0.0)
        await ike._look()
        await ike._look()
        assert [claims.router for claims in admitted] == [RIGA.router]
        return ike.admitted()

    assert [one.nbma for one in asyncio.run(looks())] == [NBMA]
    assert charon.ended == ["1"]
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert why in warning


def test_a_trial_of_rules_that_fails_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(Fault, match="could not be tried"):
        ruleset.listing_of_file(tmp_path / "rules.nft", "dmvpn_acme")
