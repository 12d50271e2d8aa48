"""Why IKE found no way between two routers, as far as this one can know: what is observed, never what is guessed.

Observed are the ports under which hubs and direct peers see this router, and where the hubs see the far one. Two ports
at one address mean a mapping that depends on the peer: RFC 4787, 4.1; "symmetric" in RFC 3489.
"""

from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address

from dmvpn.daemon.control import WhyNot
from dmvpn.nhrp.cache import BindingKind
from dmvpn.nhrp.events import Endpoint
from dmvpn.nhrp.shortcut import ShortcutState
from dmvpn.nhrp.view import ShortcutRow, View

Address = IPv4Address | IPv6Address
NAMED = 3  # ports in a sentence


def no_security(view: View, shortcut: ShortcutRow, name_of: Callable[[Address], str]) -> tuple[WhyNot, str]:
    """The reason and its details, for a shortcut whose peer did not answer at any candidate."""
    seen = list(_seen(view, name_of))
    private = {one.address for row in view.bindings if row.kind is BindingKind.LOCAL for one in row.private}
    here = [endpoint for _, endpoint in seen if endpoint.address not in private]
    theirs = {endpoint.address for endpoint in shortcut.private}
    there = [endpoint for endpoint in shortcut.public if endpoint.address not in theirs]
    tried = f"tried at {_listed(shortcut.candidates)}" if shortcut.candidates else "it has told no candidate"
    once_up = shortcut.state is not ShortcutState.NEGATIVE  # then the NATs are not what is in the way
    if once_up or not here or not there:
        return WhyNot.NO_SECURITY, tried
    for address in dict.fromkeys(endpoint.address for endpoint in here):
        ports = {endpoint.port: who for who, endpoint in seen if endpoint.address == address}
        if len(ports) > 1:
            words = ", ".join(f"{who} sees port {port}" for port, who in list(ports.items())[:NAMED])
            return WhyNot.SYMMETRIC_NAT, f"at {address} {words}; {tried}"
    return WhyNot.BOTH_NATTED, f"this one is seen at {_listed(dict.fromkeys(here))}; {tried}"


def _seen(view: View, name_of: Callable[[Address], str]) -> Iterator[tuple[str, Endpoint]]:
    """Who sees this router where."""
    for hub in view.hubs:
        if hub.observed is not None:
            yield hub.name, hub.observed
    for row in view.shortcuts:
        if row.seen_as is not None and row.nbma is not None:
            yield name_of(row.nbma) or str(row.nbma), row.seen_as


def _listed(endpoints: Iterable[Endpoint]) -> str:
    return ", ".join(f"{endpoint.address} port {endpoint.port}" for endpoint in endpoints)
