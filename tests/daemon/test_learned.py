"""What a hub learns of its spokes: kept over restarts, bounded, told once, and forgotten in time."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, ip_address
from pathlib import Path
from typing import Any

import pytest

from dmvpn.daemon import learned as learned_module
from dmvpn.daemon import settings as daemon_settings
from dmvpn.daemon.learned import Learned
from dmvpn.daemon.settings import Settings
from dmvpn.identity.claims import Claims, Role
from dmvpn.network.compile import compile_plan
from dmvpn.network.loading import load as load_network
from dmvpn.render import daemon
from dmvpn.render import learned as rendered
from dmvpn.render.layout import Layout

EXAMPLE = Path(__file__).parents[2] / "examples" / "demo.yaml"
NETWORK = load_network(EXAMPLE.read_text(), EXAMPLE.name)


def settings_in(directory: Path, router: str = "hq1") -> Settings:
    (file,) = daemon.render(compile_plan(NETWORK, router, secrets={}), Layout(NETWORK.network)).files
    read = daemon_settings.parse(json.loads(file.text))
    return replace(read, paths=replace(read.paths, learned=directory / "learned.json", gre=directory / "gre.sock"))


def claims(number: int, **more: Any) -> Claims:
    own = Claims(
        network="acme",
        router=f"sp{number}",
        role=Role.SPOKE,
        transport=IPv4Address(f"100.64.0.{number}"),
        overlay=(IPv4Address(f"10.255.1.{number}"),),
        prefixes=(IPv4Network(f"10.1.{number}.0/24"),),
        asn=65000 + number,
    )
    return replace(own, **more)


class Told:
    """The supervisor's side: what the file said each time it was asked to have it rendered."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.texts: list[str] = []

    def reload(self, unit: str) -> None:
        assert unit == "dmvpn-acme-learned"
        self.texts.append(self.path.read_text())

    def routers(self) -> list[list[str]]:
        return [[row["router"] for row in json.loads(text)["clouds"]["blue"]] for text in self.texts]


def played(directory: Path, play: Callable[[Learned, Told], Coroutine[Any, Any, None]]) -> Told:
    async def all_of_it() -> Told:
        settings = settings_in(directory)
        known, told = Learned(settings), Told(settings.paths.learned)
        known._services = told  # type: ignore[assignment]
        running = asyncio.create_task(known.run())
        await play(known, told)
        running.cancel()
        return told

    return asyncio.run(all_of_it())


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def test_what_came_together_is_told_together_and_once(tmp_path: Path) -> None:
    async def play(known: Learned, told: Told) -> None:
        for number in (12, 11):
            known.learn(claims(number).transport, claims(number))
        await _until(lambda: told.texts)
        known.learn(claims(11).transport, claims(11))
        known.departed(claims(12).transport)
        known.learn(claims(12).transport, claims(12))
        known.learn(claims(13).transport, claims(13))
        await _until(lambda: len(told.texts) == 2)

    assert played(tmp_path, play).routers() == [["sp11", "sp12"], ["sp11", "sp12", "sp13"]]
    assert (tmp_path / "learned.json").stat().st_mode & 0o777 == 0o600


def test_the_renderer_reads_what_the_daemon_writes(tmp_path: Path) -> None:
    async def play(known: Learned, told: Told) -> None:
        known.learn(claims(11).transport, claims(11))
        await _until(lambda: told.texts)

    (text,) = played(tmp_path, play).texts
    (spoke,) = rendered.parse(text, "acme")["blue"]
    own = claims(11)
    assert spoke == rendered.Spoke("sp11", own.overlay, own.asn, own.prefixes)


def test_who_was_known_before_a_restart_stays_until_its_time_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def before(known: Learned, told: Told) -> None:
        for number in (11, 12):
            known.learn(claims(number).transport, claims(number))
        await _until(lambda: told.texts)

    async def after(known: Learned, told: Told) -> None:
        known.learn(claims(12).transport, claims(12))
        await _until(lambda: told.texts)
        monkeypatch.setattr(learned_module, "DEPARTED_S", 0.0)
        known.learn(claims(12).transport, claims(12))  # something to look for
        await _until(lambda: len(told.texts) == 2)

    played(tmp_path, before)
    assert played(tmp_path, after).routers() == [["sp11", "sp12"], ["sp12"]]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("{", "no JSON", id="cut off"),
        pytest.param('{"clouds": {"blue": [{"router": "sp11"}]}}', "no address", id="a row that lacks something"),
    ],
)
def test_a_file_that_cannot_be_used_is_begun_afresh(tmp_path: Path, text: str, why: str) -> None:
    async def play(known: Learned, told: Told) -> None:
        known.learn(claims(11).transport, claims(11))
        await _until(lambda: told.texts)

    (tmp_path / "learned.json").write_text(text)
    assert played(tmp_path, play).routers() == [["sp11"]], why


@pytest.mark.parametrize(
    ("second", "learned", "counted"),
    [
        pytest.param(claims(12, role=Role.HUB), ["sp11"], {}, id="a hub is the file's to name"),
        pytest.param(claims(12, overlay=(ip_address("10.9.9.9"),)), ["sp11"], {}, id="of another cloud"),
        pytest.param(
            claims(12, overlay=(ip_address("10.255.1.11"),)), ["sp11"], {"bgp taken": 1}, id="has the first one's"
        ),
        pytest.param(claims(12), ["sp11"], {"bgp limit": 1}, id="one too many"),
    ],
)
def test_who_gets_no_row(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    second: Claims,
    learned: list[str],
    counted: dict[str, int],
) -> None:
    if "bgp limit" in counted:
        monkeypatch.setattr(learned_module, "SPOKES_LIMIT", 1)

    async def play(known: Learned, told: Told) -> None:
        known.learn(claims(11).transport, claims(11))
        known.learn(second.transport, second)
        await _until(lambda: told.texts)
        assert dict(known.drops["blue"]) == counted

    assert played(tmp_path, play).routers() == [learned]


def test_an_address_goes_to_its_new_holder_once_the_old_one_is_away(tmp_path: Path) -> None:
    moved = claims(12, overlay=claims(11).overlay)

    async def play(known: Learned, told: Told) -> None:
        known.learn(claims(11).transport, claims(11))
        known.departed(claims(11).transport)
        known.learn(moved.transport, moved)
        await _until(lambda: told.texts)

    assert played(tmp_path, play).routers() == [["sp12"]]


def test_a_revoked_router_goes_at_once_whether_it_is_here_or_away(tmp_path: Path) -> None:
    async def play(known: Learned, told: Told) -> None:
        for number in (11, 12, 13, 14):
            known.learn(claims(number).transport, claims(number))
        await _until(lambda: told.texts)
        known.forget(claims(11).transport)
        known.departed(claims(11).transport)  # another of its SAs ends
        known.departed(claims(12).transport)
        known.departed(claims(14).transport)
        known.revoked({"sp12", "sp13"})  # the one that is here has newer papers, or loses its SA in a moment
        await _until(lambda: len(told.texts) == 2)

    assert played(tmp_path, play).routers() == [["sp11", "sp12", "sp13", "sp14"], ["sp13", "sp14"]]


def test_a_router_that_is_no_hub_learns_nobody(tmp_path: Path) -> None:
    async def play() -> None:
        known = Learned(settings_in(tmp_path, "par1"))
        known.learn(claims(11).transport, claims(11))
        await known.run()

    asyncio.run(play())
    assert not (tmp_path / "learned.json").exists()
