"""Copies to many members leave the loop its turns, and none is lost or changes its place."""

import asyncio
import os
from ipaddress import IPv4Address

import pytest

from dmvpn.daemon import multicast
from dmvpn.daemon.multicast import COPIES_A_TURN, Multicast
from dmvpn.linux.netlink import Address
from dmvpn.linux.nflog import LoggedPacket

MEMBERS = tuple(IPv4Address(0x64400000 + number) for number in range(3 * COPIES_A_TURN + 1))
PACKETS = (b"first", b"second")


class Packets:
    """A group with two packets that wait."""

    def __init__(self, _group: int, _octets: int) -> None:
        self._reader, self._writer = os.pipe()
        os.write(self._writer, b"!")

    def fileno(self) -> int:
        return self._reader

    def read(self) -> tuple[LoggedPacket, ...]:
        os.read(self._reader, 1)
        return tuple(LoggedPacket(octets, b"", None, "", 0) for octets in PACKETS)

    def close(self) -> None:
        os.close(self._reader)
        os.close(self._writer)


class Copies:
    sent: list[tuple[bytes, tuple[Address, ...]]]

    def __init__(self, _device: str) -> None:
        Copies.sent = []

    def send(self, octets: bytes, members: tuple[Address, ...]) -> int:
        Copies.sent.append((octets, members))
        return len(members)

    def close(self) -> None: ...


def test_a_large_cloud_is_served_in_many_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multicast, "LoggedPackets", Packets)
    monkeypatch.setattr(multicast, "Copies", Copies)

    async def work() -> None:
        one = Multicast("tun0", 1, lambda: MEMBERS, lambda reason, count: pytest.fail(f"{reason} {count}"))
        one.open()
        steps, before = [], 0
        async with asyncio.timeout(10):
            while before < len(PACKETS) * len(MEMBERS):
                await asyncio.sleep(0)
                now = sum(len(members) for _, members in Copies.sent)
                steps.append(now - before)
                before = now
        one.close()
        assert max(steps) == COPIES_A_TURN
        assert [(octets, member) for octets, members in Copies.sent for member in members] == [
            (octets, member) for octets in PACKETS for member in MEMBERS
        ]

    asyncio.run(work())
