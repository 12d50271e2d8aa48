"""Our nftables table, flushed and changed by others under a real supervisor: it comes back, and status says so."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from dmvpn.daemon import guards
from dmvpn.daemon.control import REMARK, SEVERE, RulesRow
from dmvpn.daemon.guard_troubles import REMEMBERED_S, rules_troubles
from dmvpn.daemon.guards import RuleGuard
from dmvpn.linux import namespaces, ruleset
from dmvpn.linux.services import Supervised

TABLE = "dmvpn_acme"
RULES = f"""\
add table inet {TABLE}
delete table inet {TABLE}
table inet {TABLE} {{
	counter gre_clear_out {{ }}
	set pairs {{
		type ipv4_addr . ipv4_addr
		size 16384
		flags dynamic,timeout
		timeout 10s
	}}
	chain guard_out {{
		type filter hook output priority filter; policy accept;
		oifname != "ipsec0" meta l4proto gre ip daddr 100.64.0.0/16 counter name gre_clear_out drop
		oifname "lo" update @pairs {{ ip saddr . ip daddr limit rate 1/second burst 2 packets }}
	}}
}}
"""
LIMIT_S = 5.0  # of waiting, not of the mending: a machine may be slow
QUIET_S = 0.5
pytestmark = pytest.mark.kernel


@dataclass(frozen=True)
class Loads:
    """The one-shot that loads the rules."""

    argv: tuple[str, ...]
    reload: tuple[str, ...]
    stop: tuple[str, ...] = ("nft", "delete", "table", "inet", TABLE)
    name: str = "dmvpn-acme-nftables"
    package: str = "nftables"
    daemon: bool = False
    environment: tuple[tuple[str, str], ...] = ()
    ready: PurePosixPath | None = None
    binds: tuple[tuple[PurePosixPath, PurePosixPath], ...] = ()
    start_timeout_s: float = 10.0


@dataclass
class Router:
    guard: RuleGuard
    rules: Path
    services: Supervised

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(LIMIT_S):
            while not await asyncio.to_thread(true):
                await asyncio.sleep(0.01)

    async def mended(self, times: int) -> RulesRow:
        await self.until(lambda: self.guard.view().mended >= times)
        return self.guard.view()


def nft(*words: str) -> None:
    subprocess.run(("nft", *words), check=True, timeout=20)


def whole() -> bool:
    return 'counter name "gre_clear_out" drop' in ruleset.listing(TABLE)


@pytest.fixture
def netns() -> Iterator[None]:
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    handle = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        namespaces.unshare(namespaces.CLONE_NEWNET)
        yield
    finally:
        namespaces.join(Path(f"/proc/self/fd/{handle}"))
        os.close(handle)


@pytest.fixture
def watched(netns: None, tmp_path: Path) -> Iterator[Callable[[Callable[[Router], Coroutine[Any, Any, None]]], None]]:
    """Runs a test's coroutine with the table loaded, kept by a supervisor, and watched."""
    rules = tmp_path / "nftables.nft"
    rules.write_text(RULES)
    load = ("nft", "-f", str(rules))
    services = Supervised("acme", tmp_path / "run")
    services.apply([Loads(load, load)])

    async def serve(test: Callable[[Router], Coroutine[Any, Any, None]]) -> None:
        async with _guarding(Router(RuleGuard("acme", rules, tmp_path / "run"), rules, services)) as router:
            await test(router)

    yield lambda test: asyncio.run(serve(test))
    services.shut_down()


@asynccontextmanager
async def _guarding(router: Router) -> AsyncIterator[Router]:
    router.guard.open()
    task = asyncio.create_task(router.guard.run())
    try:
        await asyncio.sleep(QUIET_S)
        assert router.guard.view().mended == 0, "nothing was wrong at the start"
        yield router
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        router.guard.close()


Watched = Callable[[Callable[[Router], Coroutine[Any, Any, None]]], None]


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("flush", "ruleset"), id="flushed, as Debian's nftables.service does"),
        pytest.param(("delete", "table", "inet", TABLE), id="the table deleted"),
        pytest.param(("flush", "table", "inet", TABLE), id="its rules deleted"),
        pytest.param(("insert", "rule", "inet", TABLE, "guard_out", "accept"), id="a rule put before ours"),
        pytest.param(("add", "table", "inet", TABLE, "{ flags dormant; }"), id="put to sleep"),
    ],
)
def test_what_others_do_to_the_table_is_undone_and_told(words: tuple[str, ...], watched: Watched) -> None:
    async def test(router: Router) -> None:
        before = await asyncio.to_thread(ruleset.listing, TABLE)
        await asyncio.to_thread(nft, *words)
        row = await router.mended(1)
        assert await asyncio.to_thread(ruleset.listing, TABLE) == before
        assert row.by.startswith("nft (process ")
        assert row.missing_s is not None
        assert row.missing_s < LIMIT_S
        assert (row.damaged_s, row.contested, row.trouble) == (None, False, "")
        (trouble,) = rules_troubles(row, {"gre_clear_out": 0})
        assert trouble.severity == REMARK
        assert f"changed by {row.by} and put back 0 s ago" in trouble.what

    watched(test)


def test_our_own_reload_is_no_damage_nor_is_somebody_elses_table(watched: Watched) -> None:
    async def test(router: Router) -> None:
        await asyncio.to_thread(nft, "add", "table", "inet", "theirs")
        await asyncio.to_thread(router.services.reload, Loads.name)
        await asyncio.sleep(QUIET_S)
        router.rules.write_text(RULES.replace("100.64.0.0/16", "100.65.0.0/16"))
        await asyncio.to_thread(router.services.reload, Loads.name)
        await asyncio.sleep(QUIET_S)
        assert router.guard.view().mended == 0
        assert "100.65.0.0/16" in await asyncio.to_thread(ruleset.listing, TABLE)
        await asyncio.to_thread(nft, "flush", "ruleset")
        await router.mended(1)
        assert "100.65.0.0/16" in await asyncio.to_thread(ruleset.listing, TABLE)

    watched(test)


def test_whoever_goes_on_is_not_fought_without_end(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "CONTESTED_S", 1.0)

    async def test(router: Router) -> None:
        for times in range(1, guards.BURST + 1):
            await asyncio.to_thread(nft, "flush", "ruleset")
            await router.mended(times)
        row = router.guard.view()
        assert row.contested
        assert [one.severity for one in rules_troubles(row, {"gre_clear_out": 0})] == [SEVERE]
        await asyncio.to_thread(nft, "flush", "ruleset")
        await router.until(lambda: router.guard.view().damaged_s is not None)
        assert not await asyncio.to_thread(whole)
        assert [one.severity for one in rules_troubles(router.guard.view(), {})] == [SEVERE]
        await router.mended(guards.BURST + 1)
        assert await asyncio.to_thread(whole)

    watched(test)


def test_a_table_that_an_operator_stopped_stays_away_and_status_is_severe(watched: Watched) -> None:
    async def test(router: Router) -> None:
        await asyncio.to_thread(router.services.stop, Loads.name)
        await router.until(lambda: router.guard.view().trouble != "")
        row = router.guard.view()
        assert (row.mended, row.damaged_s is not None) == (0, True)
        (trouble,) = rules_troubles(row, {})
        assert trouble.severity == SEVERE
        assert "cannot be put back: dmvpn-acme-nftables: is not running" in trouble.what

    watched(test)


@pytest.mark.parametrize(
    ("last_s", "told"),
    [
        pytest.param(None, 0, id="never"),
        pytest.param(3.0, 1, id="a moment ago"),
        pytest.param(REMEMBERED_S + 1, 0, id="long ago"),
    ],
)
def test_what_was_mended_is_told_for_an_hour(last_s: float | None, told: int) -> None:
    row = RulesRow(TABLE, 1, last_s, 0.1, "nft", contested=False, damaged_s=None, trouble="")
    assert len(rules_troubles(row, {"gre_clear_out": 0})) == told


@pytest.mark.parametrize(
    ("filters", "said"),
    [
        pytest.param(True, "(two other guards hold, and nothing is filtered)", id="with a zone policy"),
        pytest.param(False, "(two other guards hold)", id="without"),
    ],
)
def test_that_the_policy_went_with_the_guards_is_said(filters: bool, said: str) -> None:  # noqa: FBT001
    row = RulesRow(TABLE, 0, None, None, "", contested=False, damaged_s=1.0, trouble="", filters=filters)
    (trouble,) = rules_troubles(row, {})
    assert said in trouble.what
