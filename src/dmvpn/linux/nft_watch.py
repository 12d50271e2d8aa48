"""Who changes an nftables table, and when: linux/netfilter/nf_tables.h, nfnetlink.h (NFNLGRP_NFTABLES).

The kernel tells of a batch once it counts, and ends it with its generation, which names the process.
"""

from dmvpn.linux.netlink import NETLINK_NETFILTER, Events, Message, attributes

_GROUP_NFTABLES = 7
_SUBSYSTEM_NFTABLES = 10
_NEWGEN = 15
# Elements come and go with the packets; a rule set is its table, chains, rules, sets and objects.
_ELEMENTS = frozenset({12, 14})
_TABLE = 1  # NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE, ...: the first attribute of each
_GENERATION_PID = 2
_GENERATION_NAME = 3
_NFGENMSG_OCTETS = 4


class TableWatch:
    """Changes of one table, whatever its family. For loop.add_reader(): fileno() and a read that never blocks."""

    def __init__(self, table: str) -> None:
        self._table = table.encode()
        self._events = Events((_GROUP_NFTABLES,), NETLINK_NETFILTER)
        self._touched = False

    def fileno(self) -> int:
        return self._events.fileno()

    def close(self) -> None:
        self._events.close()

    def read(self) -> str | None:
        """Who made the last change among what waits, empty where the kernel does not say so; None: there is no change.

        When the kernel had to drop some of it, that may have been one.
        """
        found, overflow = self._events.read()
        changed: str | None = "" if overflow else None
        for message in found:
            if message.kind >> 8 != _SUBSYSTEM_NFTABLES:
                continue
            if message.kind & 0xFF == _NEWGEN:
                if self._touched:
                    changed = _program(message)
                self._touched = False
            elif message.kind & 0xFF not in _ELEMENTS and self._is_ours(message):
                self._touched = True
        return changed

    def _is_ours(self, message: Message) -> bool:
        return attributes(message.payload, _NFGENMSG_OCTETS).get(_TABLE, b"").rstrip(b"\0") == self._table


def _program(message: Message) -> str:
    values = attributes(message.payload, _NFGENMSG_OCTETS)
    name = values.get(_GENERATION_NAME, b"").rstrip(b"\0").decode(errors="replace")
    pid = int.from_bytes(values.get(_GENERATION_PID, b""), "big")
    return f"{name} (process {pid})" if name else ""
