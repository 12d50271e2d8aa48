"""Certificates between routers, over real sockets: renewing, and revocation lists on their way."""

import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

sys.path.insert(0, str(Path(__file__).parents[1] / "identity"))
from dataclasses import replace

from renewal_cases import CLAIMS, NOW, RENEWER, ROOT, router

from dmvpn.daemon.papers import Pair, Papers
from dmvpn.daemon.renewals import OFTEN_LIMIT, Renewals
from dmvpn.daemon.renewing import Renewing, renews_at
from dmvpn.daemon.revoking import Revoking
from dmvpn.daemon.server import Server, ask_tcp
from dmvpn.daemon.vouching import Vouching
from dmvpn.errors import Fault
from dmvpn.identity import authority, issuing, keys, renewal, revocation
from dmvpn.identity.claims import Claims, Role
from dmvpn.identity.revocation import Reason, Revoked
from dmvpn.linux import files

HUB, SPOKE = "127.0.1.1", "127.0.0.1"  # the kernel sends from the latter
PAR1 = replace(CLAIMS, overlay=(ip_address(SPOKE),))
HQ1 = replace(CLAIMS, router="hq1", role=Role.HUB, transport=ip_address("100.64.0.1"), overlay=(ip_address(HUB),))
TOP = issuing.opened(*ROOT)
LIMIT_S = 30.0


@dataclass
class Charon:
    """What charon was told. It takes papers as `ike` gives them."""

    papers: Papers
    lists: list[int] = field(default_factory=list)
    installed: int = 0

    async def enforce(self, lists: tuple[revocation.RevocationList, ...]) -> None:
        self.lists += [one.number for one in lists]

    async def install(self, new: Pair | None) -> None:
        assert new is not None
        self.papers.swap(new)
        self.installed += 1


class Router:
    """One router's part, with its own files, answering at an address."""

    def __init__(self, directory: Path, claims: Claims, port: int, others: tuple[str, ...], days: int = 300) -> None:
        self.address = str(claims.overlay[0])
        self.papers = Papers(directory / "pki")
        self.papers.make_directories()
        pem, key = router(claims, days)
        files.write(self.papers.pki / "ca.pem", ROOT[0])
        self.papers.swap(Pair(pem, key))
        if claims.role is Role.HUB:
            files.write(self.papers.pki / "renewal.pem", RENEWER[0])
            files.write_secret(self.papers.pki / "renewal.key", RENEWER[1])
        self.vouching = Vouching(self.papers)
        self.charon = Charon(self.papers)
        ike: Any = self.charon
        self.renewals = Renewals(self.papers, directory)
        if claims.role is Role.HUB:
            self.vouching.take_renewer(authority.certificate_in(RENEWER[0]))
        self.peers = [ip_address(one) for one in others]
        self.listed: set[str] = set()
        self.revoking = Revoking(self.vouching, ike, self.renewals, lambda: self.peers, port, self.listed.update)
        self.renewing = Renewing(self.vouching, ike, self.renewals, lambda: self.peers, lambda: self.address, port)
        self.port, self.server = port, Server()

    async def open(self) -> None:
        await self.server.open_tcp(self.address, self.port, self._answer, device=None, admits=lambda _: True)

    async def _answer(self, question: dict[str, Any], source: str) -> Any:
        match question["ask"]:
            case "revoked":
                return self.revoking.answer(question)
            case "revocations":
                return self.revoking.told(question, source)
            case _:
                return self.renewing.answer(question, source)

    def take_file(self, *entries: Revoked, number: int) -> None:
        """As `pki install-crl` does."""
        made = revocation.make(TOP, entries, number=number, now=NOW)
        self.papers.keep_list(revocation.read(made, [TOP.certificate]))

    def serial(self) -> int:
        return authority.describe(self.papers.own().certificate).serial


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def played(tmp_path: Path, work: Callable[[Router, Router], Awaitable[None]], days: int = 300) -> None:
    async def play() -> None:
        port = free_port()
        hub = Router(tmp_path / "hub", HQ1, port, (SPOKE,))
        spoke = Router(tmp_path / "spoke", PAR1, port, (HUB,), days)
        try:
            await hub.open()
            await spoke.open()
            await asyncio.wait_for(work(hub, spoke), LIMIT_S)
        finally:
            await hub.server.close()
            await spoke.server.close()

    (tmp_path / "hub").mkdir()
    (tmp_path / "spoke").mkdir()
    asyncio.run(play())


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def test_a_router_renews_by_a_hub_with_a_key_of_its_own(tmp_path: Path) -> None:
    async def work(hub: Router, spoke: Router) -> None:
        before, old = spoke.papers.own(), spoke.serial()
        found = await spoke.renewing.renew()
        now = spoke.papers.own()
        assert found.claims == PAR1
        assert (found.renewed, found.origin) == (True, old)
        assert now.key != before.key
        assert authority.public_key_in(now.certificate) == keys.public_key_of(now.key)
        assert (spoke.papers.swanctl / "private" / "router.key").read_bytes() == now.key
        assert not (spoke.papers.pki / "request.key").exists()
        assert list((spoke.papers.swanctl / "x509ca").glob("renewal-*.pem"))
        files.check_private(spoke.papers.pki / "router.key")
        assert (await spoke.renewing.renew()).origin == old
        assert spoke.charon.installed == 2

    played(tmp_path, work)


def test_a_hub_renews_itself(tmp_path: Path) -> None:
    async def work(hub: Router, _spoke: Router) -> None:
        assert (await hub.renewing.renew()).claims == HQ1

    played(tmp_path, work)


def test_an_invitation_is_renewed_for_one_key_only(tmp_path: Path) -> None:
    async def work(hub: Router, spoke: Router) -> None:
        invitation = spoke.papers.own()
        await spoke.renewing.renew()
        spoke.papers.swap(invitation)  # somebody else has a copy of it
        with pytest.raises(Fault, match="this invitation was used already, for another key"):
            await spoke.renewing.renew()
        assert spoke.papers.own() == invitation

    played(tmp_path, work, days=7)


def test_asked_again_for_the_same_key_an_invitation_is_good(tmp_path: Path) -> None:
    async def work(hub: Router, spoke: Router) -> None:
        own = spoke.papers.own()
        asking = renewal.ask(own.certificate, own.key, spoke.papers.pending_key())
        for _ in range(2):
            assert "certificate" in hub.renewing.answer({"ask": "renew", "asking": asking.to_wire()}, SPOKE)

    played(tmp_path, work, days=7)


def test_nobody_is_renewed_without_end_or_from_elsewhere(tmp_path: Path) -> None:
    async def work(hub: Router, spoke: Router) -> None:
        own = spoke.papers.own()
        question = {"ask": "renew", "asking": renewal.ask(own.certificate, own.key, own.key).to_wire()}
        assert hub.renewing.answer(question, "127.0.0.9") == {"refused": "REFUSED"}
        for _ in range(OFTEN_LIMIT):
            assert "certificate" in hub.renewing.answer(question, SPOKE)
        assert hub.renewing.answer(question, SPOKE) == {"refused": "OFTEN"}
        assert spoke.renewing.answer(question, SPOKE) == {"refused": "NO_AUTHORITY"}

    played(tmp_path, work)


def test_what_is_published_at_one_router_is_in_force_at_the_other(tmp_path: Path) -> None:
    async def work(hub: Router, spoke: Router) -> None:
        entry = Revoked(99, "lyo1", Reason.KEY_COMPROMISE, NOW.replace(microsecond=0))
        spoke.take_file(entry, number=5)
        await spoke.revoking.changed()
        assert spoke.charon.lists == [5]
        await until(lambda: hub.charon.lists)
        assert hub.charon.lists == [5]
        (kept,), bad = hub.papers.lists(hub.vouching.signers)
        assert (kept.number, bad) == (5, ())
        assert hub.listed == {"lyo1"}, "and what was learned of it goes"

    played(tmp_path, work)


def test_a_renewed_router_is_revoked_everywhere_by_the_hub_that_renewed_it(tmp_path: Path) -> None:
    async def work(hub: Router, spoke: Router) -> None:
        origin = spoke.serial()
        await spoke.renewing.renew()
        hub.take_file(Revoked(origin, "par1", Reason.RETIRED, NOW.replace(microsecond=0)), number=5)
        await hub.revoking.changed()
        assert len(hub.charon.lists) == 2, "the root's, and the hub's own for charon"
        spoke.revoking.met(ip_address(HUB), after_s=0.0)  # from one machine the hub's word comes from the wrong address
        await until(lambda: len(spoke.charon.lists) == 2)
        theirs = next(one for one in spoke.vouching.revocations.lists if one.number != 5)
        assert list(theirs.entries) == [spoke.serial()]
        own = spoke.vouching.own()
        assert own is not None
        assert spoke.vouching.revoked(own) is not None
        with pytest.raises(Fault, match="refuses it"):
            await spoke.renewing.renew()

    played(tmp_path, work)


def test_routers_that_meet_compare_what_they_know(tmp_path: Path) -> None:
    async def work(hub: Router, spoke: Router) -> None:
        hub.take_file(number=8)
        hub.vouching.read_lists()
        spoke.revoking.met(ip_address(HUB), after_s=0.0)
        await until(lambda: spoke.charon.lists == [8])

    played(tmp_path, work)


@pytest.mark.parametrize(
    "question",
    [
        pytest.param({"ask": "revoked"}, id="no numbers"),
        pytest.param({"ask": "revocations", "numbers": 7}, id="numbers that are none"),
        pytest.param({"ask": "renew"}, id="nothing asked"),
        pytest.param({"ask": "renew", "asking": {"certificate": 1, "request": [], "signature": None}}, id="rubbish"),
        pytest.param({"ask": "renew", "asking": {"certificate": "AA==", "request": "", "signature": ""}}, id="empty"),
    ],
)
def test_what_no_router_asks_is_refused(tmp_path: Path, question: dict[str, Any]) -> None:
    async def work(hub: Router, _spoke: Router) -> None:
        try:
            answer = await ask_tcp(HUB, hub.port, question, timeout_s=LIMIT_S)
        except Fault as fault:
            answer = fault.what
        assert answer in ("refused to answer", {"refused": "REFUSED"})

    played(tmp_path, work)


@pytest.mark.parametrize("died", ["before", "after"])
def test_papers_that_changed_halfway_fit_together_afterwards(tmp_path: Path, died: str) -> None:
    papers = Papers(tmp_path)
    papers.make_directories()
    old, new = Pair(*router()), Pair(*router())
    papers.swap(old)
    files.write_secret(papers.swanctl / "private" / "next.key", new.key)
    if died == "after":
        files.write(papers.pki / "router.pem", new.certificate)
    papers.mend()
    assert papers.own() == (new if died == "after" else old)
    assert (papers.swanctl / "private" / "router.key").read_bytes() == papers.own().key
    assert not (papers.swanctl / "private" / "next.key").exists()


def test_renewal_begins_at_a_third_of_the_life_that_is_left_and_not_for_all_at_once(tmp_path: Path) -> None:
    files.write(tmp_path / "ca.pem", ROOT[0])
    found = set()
    for name in ("par1", "lyo1", "osl1"):
        pem, _ = router(replace(CLAIMS, router=name), days=300)
        files.write(tmp_path / "router.pem", pem)
        own = Vouching(Papers(tmp_path)).chain.vouch(authority.certificate_in(pem).public_bytes(Encoding.DER))
        left = own.not_after - renews_at(own)
        assert timedelta(days=100) <= left <= timedelta(days=111)
        assert renews_at(own) == renews_at(own)
        found.add(left)
    assert len(found) == 3
