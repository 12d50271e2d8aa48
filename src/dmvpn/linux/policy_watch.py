"""Our blocking XFRM policies, watched and put back: linux/xfrm.h (XFRMNLGRP_POLICY), ip-xfrm(8).

`ip xfrm policy flush` takes everybody's policies, charon's among them, and the kernel does not say who did it.
"""

from pathlib import Path

from dmvpn.linux.netlink import NETLINK_XFRM, Events, attributes
from dmvpn.linux.netstate_file import NetState, Policy, load, locked
from dmvpn.linux.netstate_policies import ID_OCTETS, Policies, may_displace, policy_of

_GROUP_POLICY = 4
_DELETED, _UPDATED, _FLUSHED = 0x14, 0x19, 0x1D
_POLICY = 7  # XFRMA_POLICY: the policy that was deleted


class PolicyWatch:
    """Policies that go away or become others. For loop.add_reader(): fileno() and a read that never blocks."""

    def __init__(self) -> None:
        self._events = Events((_GROUP_POLICY,), NETLINK_XFRM)

    def fileno(self) -> int:
        return self._events.fileno()

    def close(self) -> None:
        self._events.close()

    def read(self) -> str | None:
        """None: none that blocks. Otherwise by whom, which the kernel does not tell here: empty."""
        found, overflow = self._events.read()
        touched = overflow
        for message in found:
            if message.kind == _DELETED:
                # charon's own come and go with each SA.
                policy = attributes(message.payload, ID_OCTETS).get(_POLICY, b"")
                touched = touched or policy_of(policy) is not None
            if message.kind == _UPDATED:
                # One with the selector of ours replaces it, whatever its priority and action.
                touched = touched or may_displace(message.payload)
            touched = touched or message.kind == _FLUSHED
        return "" if touched else None


def are_whole(path: Path) -> bool:
    """Whether the kernel has what network.json says and its record confirms. Raises Fault."""
    with Policies() as policies:
        return not set(_kept(load(path))) - policies.present()


def put_back(path: Path) -> None:
    """Policies alone, for it may be in the middle of anything. One that was taken away on purpose is in no record.

    Raises Fault.
    """
    wanted = load(path)
    with locked(wanted.state), Policies() as policies:
        present = policies.present()
        for policy in _kept(wanted):
            if policy not in present:
                policies.put(policy)


def _kept(wanted: NetState) -> tuple[Policy, ...]:
    recorded = load(wanted.state).policies if wanted.state.exists() else ()
    return tuple(policy for policy in wanted.policies if policy in recorded)
