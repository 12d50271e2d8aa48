"""What dmvpnd answers, and to whom: readers, root, and other routers through the overlay."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

from dmvpn.daemon import paths, views
from dmvpn.daemon.control import OVERLAY_PORT, PathView, State, WhyNot
from dmvpn.daemon.node import Node
from dmvpn.daemon.server import Server, Stream, ask_tcp
from dmvpn.daemon.watching import Reader
from dmvpn.daemon.wire import to_wire
from dmvpn.errors import Fault
from dmvpn.nhrp.events import Forget

log = logging.getLogger("dmvpnd")

HOPS_LIMIT = 8
SITE_PREFIXES_LIMIT = 32
HOP_TIMEOUT_S = 3.0
RELAYED_TIMEOUT_S = 5.0  # above HOP_TIMEOUT_S, which the hub has for its part
LISTEN_AGAIN_S = 2.0


class Answers:
    """Opens the sockets and dispatches what is asked."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._server = Server()
        self._listening: asyncio.Task[None] | None = None

    async def open(self) -> None:
        where = self._node.settings.paths
        await self._server.open_unix(where.control, self._admin, mode=0o600)
        await self._server.open_unix(where.reading, self._read, mode=0o660)
        self._listening = asyncio.create_task(self._listen_on_overlay())

    async def close(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._listening
        await self._server.close()

    async def _listen_on_overlay(self) -> None:
        """An overlay address may come a moment after us."""
        waiting = [(str(address), cloud.device) for cloud in self._node.settings.clouds for address in cloud.addresses]
        while waiting:
            for address, device in list(waiting):
                try:
                    await self._server.open_tcp(
                        address, OVERLAY_PORT, self._other_router, device=device, admits=self._is_router
                    )
                    waiting.remove((address, device))
                except Fault as fault:
                    log.info("%s", fault)
            if waiting:
                await asyncio.sleep(LISTEN_AGAIN_S)

    def _is_router(self, source: str) -> bool:
        try:
            address = ip_address(source)
            return any(cloud.authority.claims_overlay(address) for cloud in self._node.clouds.values())
        except ValueError:
            return False

    async def _other_router(self, question: dict[str, Any], source: str) -> Any:
        answer = self._node.credentials.answer(question, source)
        if answer is not None:
            return answer
        if question["ask"] != "path":
            raise Fault("question", "other routers may ask for a path, a renewal or revocation lists only")
        return await self._read(question) if question.get("of") is None else await self._ask_for_another(question)

    async def _ask_for_another(self, question: dict[str, Any]) -> Any:
        """A spoke asks its hub about a router that it has no SA with: that one answers the hub."""
        router = _address(question["of"])
        if not self._node.authority.claims_overlay(router):
            raise Fault(str(router), "has no SA with this router")
        asked = {name: value for name, value in question.items() if name != "of"}
        return await ask_tcp(str(router), OVERLAY_PORT, asked, timeout_s=HOP_TIMEOUT_S)

    async def _admin(self, question: dict[str, Any]) -> Any:
        if question["ask"] == "papers-changed":
            await self._node.credentials.changed()
            return {}
        if question["ask"] == "renew-own":
            renewed = await self._node.credentials.renewing.renew()
            return {"until": renewed.not_after.isoformat()}
        if question["ask"] == "purge":
            prefix = question.get("prefix")
            forget = Forget(None if prefix is None else _network(prefix))
            for cloud in self._node.clouds.values():
                cloud.feed(forget)
            return {}
        return await self._read(question)

    async def _read(self, question: dict[str, Any]) -> Any:
        match question["ask"]:
            case "status":
                await self._node.look_at_plane()
                return to_wire(await views.status(self._node))
            case "working":
                return {"tunnel": views.has_tunnel(self._node), "routes": self._node.routewatch.learned()}
            case "moments":
                return views.moments(self._node)
            case "path":
                sites = [_network(one) for one in _list(question.get("site"))]
                return to_wire(paths.path_view(self._node, _address(question.get("destination")), sites))
            case "watch":
                return self._watch(str(question.get("cloud") or ""))
            case "explain":
                return to_wire(await self._explain(question))
            case other:
                raise Fault("question", f"{other!r} is not known here", "ask status, moments, path, explain or watch")

    def _watch(self, cloud: str) -> Stream:
        known = [one.name for one in self._node.settings.clouds]
        if cloud and cloud not in known:
            raise Fault(cloud, "no such cloud on this router", f"known here: {', '.join(known)}")
        settings = self._node.settings
        hubs = [hub.router for one in settings.clouds if cloud in ("", one.name) for hub in one.hubs]
        head = {"network": settings.network, "router": settings.router, "hubs": list(dict.fromkeys(hubs))}
        return Stream(head, _as_wire(self._node.watching.open_reader(cloud)))

    async def _explain(self, question: dict[str, Any]) -> tuple[PathView, ...]:
        words = {name: str(_address(question.get(name))) for name in ("from", "to", "source", "destination")}
        sites = {name: [str(_network(one)) for one in _list(question.get(name))] for name in ("source_site", "site")}
        there = await self._follow(words["from"], words["destination"], sites["site"])
        back = await self._follow(words["to"], words["source"], sites["source_site"])
        return (*there, *back)

    async def _follow(self, router: str, destination: str, site: list[str]) -> list[PathView]:
        """Ask router after router, each for its own part, until the destination is reached."""
        found: list[PathView] = []
        asked: set[str] = set()
        while router and router not in asked and len(asked) < HOPS_LIMIT:
            asked.add(router)
            view = await self._ask_for_path(router, destination, site)
            if found and view.arrived and view.state is State.DIRECT and found[-1].state is State.VIA_HUB:
                # The hub turned out to be the far end: through it is the direct way.
                found[-1] = replace(found[-1], state=State.DIRECT, why=WhyNot.HUB, detail="")
            found.append(view)
            router = "" if view.arrived or not self._is_in_overlay(view.gateway) else view.gateway
        return found

    def _is_in_overlay(self, text: str) -> bool:
        """Another router's answer must not make us call just anybody."""
        try:
            address = ip_address(text)
        except ValueError:
            return False
        overlays = (net for cloud in self._node.settings.clouds for net in cloud.overlay)
        return any(address in net for net in overlays if net.version == address.version)

    async def _ask_for_path(self, router: str, destination: str, site: list[str]) -> PathView:
        own = {str(address) for cloud in self._node.settings.clouds for address in cloud.addresses}
        if router in own:
            return paths.path_view(self._node, ip_address(destination), [_network(one) for one in site])
        question = {"ask": "path", "destination": destination, "site": site}
        for hub in self._hubs_towards(router):
            with contextlib.suppress(Fault):
                relayed = {**question, "of": router}
                return paths.from_wire(await ask_tcp(hub, OVERLAY_PORT, relayed, timeout_s=RELAYED_TIMEOUT_S))
        try:
            return paths.from_wire(await ask_tcp(router, OVERLAY_PORT, question, timeout_s=HOP_TIMEOUT_S))
        except Fault as fault:
            return paths.silent(self._node.names.of_overlay(ip_address(router)) or router, destination, fault.what)

    def _hubs_towards(self, router: str) -> list[str]:
        """Who may ask for us: the hubs we have an SA with, unless the router itself knows us by one."""
        authority = self._node.authority
        if authority.claims_overlay(ip_address(router)):
            return []
        hubs = (address for cloud in self._node.settings.clouds for hub in cloud.hubs for address in hub.overlay)
        return [str(address) for address in hubs if authority.claims_overlay(address)]


async def _as_wire(reader: Reader) -> AsyncGenerator[Any, None]:
    with contextlib.closing(reader):
        async for seen in reader.sightings():
            yield to_wire(seen)


def _list(value: object) -> list[object]:
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > SITE_PREFIXES_LIMIT:
        raise Fault("question", f"not a list of at most {SITE_PREFIXES_LIMIT} prefixes")
    return value


def _address(text: object) -> Any:
    try:
        return ip_address(str(text))
    except ValueError as error:
        raise Fault("question", f"{text!r} is not an address") from error


def _network(text: object) -> Any:
    try:
        return ip_network(str(text), strict=False)
    except ValueError as error:
        raise Fault("question", f"{text!r} is not a prefix") from error
