"""Why IKE found no way: from who sees whom where, and nothing beyond that."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from dmvpn.daemon.control import WhyNot
from dmvpn.daemon.nat_reasons import no_security
from dmvpn.nhrp.cache import BindingKind
from dmvpn.nhrp.events import Endpoint
from dmvpn.nhrp.registration_client import HubState
from dmvpn.nhrp.shortcut import ShortcutState
from dmvpn.nhrp.shortcut import WhyNot as EngineWhyNot
from dmvpn.nhrp.view import BindingRow, HubRow, ShortcutRow, View

OWN_OVERLAY, FAR_NBMA, OTHER_NBMA = (IPv4Address(text) for text in ("10.255.1.11", "100.64.0.12", "100.64.0.13"))
NAMES = {FAR_NBMA: "far1", OTHER_NBMA: "oth1"}


def at(address: str, port: int = 4500) -> Endpoint:
    return Endpoint(IPv4Address(address), port)


OWN_PRIVATE, OWN_PUBLIC = at("192.168.1.2"), at("203.0.113.11")
FAR_PRIVATE, FAR_PUBLIC = at("192.168.1.9"), at("203.0.113.12", 31022)


def hub(name: str, observed: Endpoint | None) -> HubRow:
    return HubRow(
        name=name,
        protocol=(),
        nbma=IPv4Address("100.64.0.1"),
        ours=True,
        state=HubState.UP,
        reason="",
        age_s=1.0,
        is_up=True,
        observed=observed,
        rtt_s=None,
    )


def shortcut(state: ShortcutState = ShortcutState.NEGATIVE) -> ShortcutRow:
    return ShortcutRow(
        prefix=IPv4Network("10.1.12.10/32"),
        destination=IPv4Address("10.1.12.10"),
        gateway=None,
        nbma=None,
        state=state,
        why=EngineWhyNot.NO_SECURITY,
        age_s=1.0,
        expires_s=None,
        rtt_s=None,
        public=(FAR_PUBLIC,),
        private=(FAR_PRIVATE,),
        candidates=(FAR_PUBLIC,),
        seen_as=None,
    )


def direct(seen_as: Endpoint) -> ShortcutRow:
    return replace(shortcut(ShortcutState.UP), nbma=OTHER_NBMA, why=EngineWhyNot.DIRECT, seen_as=seen_as)


def view(hubs: tuple[HubRow, ...], others: tuple[ShortcutRow, ...] = (), private: Endpoint = OWN_PRIVATE) -> View:
    local = BindingRow(
        protocol=OWN_OVERLAY,
        nbma=None,
        kind=BindingKind.LOCAL,
        state="up",
        bound=False,
        age_s=None,
        expires_s=None,
        claimed_nbma=None,
        public=(),
        private=(private,),
        observed=None,
    )
    return View(hubs, (local,), others, {}, {}, {})


def told(view: View, row: ShortcutRow) -> tuple[WhyNot, str]:
    return no_security(view, row, lambda nbma: NAMES.get(IPv4Address(str(nbma)), ""))


TRIED = "tried at 203.0.113.12 port 31022"
SEEN_ONCE = (hub("hq1", OWN_PUBLIC),)


@pytest.mark.parametrize(
    ("seen", "row", "why", "detail"),
    [
        pytest.param(
            view(SEEN_ONCE),
            shortcut(),
            WhyNot.BOTH_NATTED,
            f"this one is seen at 203.0.113.11 port 4500; {TRIED}",
            id="one observation proves no symmetric NAT",
        ),
        pytest.param(
            view(SEEN_ONCE, (direct(OWN_PUBLIC),)),
            shortcut(),
            WhyNot.BOTH_NATTED,
            f"this one is seen at 203.0.113.11 port 4500; {TRIED}",
            id="a peer sees the same port: not symmetric here",
        ),
        pytest.param(
            view(SEEN_ONCE, (direct(at("203.0.113.11", 40001)),)),
            shortcut(),
            WhyNot.SYMMETRIC_NAT,
            f"at 203.0.113.11 hq1 sees port 4500, oth1 sees port 40001; {TRIED}",
            id="hub and peer see two ports",
        ),
        pytest.param(
            view((hub("hq1", OWN_PUBLIC), hub("hq2", at("203.0.113.11", 40002)))),
            shortcut(),
            WhyNot.SYMMETRIC_NAT,
            f"at 203.0.113.11 hq1 sees port 4500, hq2 sees port 40002; {TRIED}",
            id="two hubs see two ports",
        ),
        pytest.param(
            view((hub("hq1", OWN_PUBLIC), hub("hq2", at("198.51.100.7", 40002)))),
            shortcut(),
            WhyNot.BOTH_NATTED,
            f"this one is seen at 203.0.113.11 port 4500, 198.51.100.7 port 40002; {TRIED}",
            id="two uplinks have two addresses, whatever their ports",
        ),
        pytest.param(
            view(SEEN_ONCE, (direct(at("192.168.1.2", 40001)),)),
            shortcut(),
            WhyNot.BOTH_NATTED,
            f"this one is seen at 203.0.113.11 port 4500; {TRIED}",
            id="a neighbour behind the same NAT sees the private address",
        ),
        pytest.param(view(SEEN_ONCE, private=OWN_PUBLIC), shortcut(), WhyNot.NO_SECURITY, TRIED, id="no NAT here"),
        pytest.param(
            view(SEEN_ONCE), replace(shortcut(), private=(FAR_PUBLIC,)), WhyNot.NO_SECURITY, TRIED, id="no NAT there"
        ),
        pytest.param(view((hub("hq1", None),)), shortcut(), WhyNot.NO_SECURITY, TRIED, id="nobody sees us"),
        pytest.param(
            view(SEEN_ONCE), shortcut(ShortcutState.RESOLVING), WhyNot.NO_SECURITY, TRIED, id="it was up once"
        ),
        pytest.param(
            view(SEEN_ONCE),
            replace(shortcut(), public=(), candidates=()),
            WhyNot.NO_SECURITY,
            "it has told no candidate",
            id="nobody sees the far one",
        ),
    ],
)
def test_the_reason_is_what_was_observed(seen: View, row: ShortcutRow, why: WhyNot, detail: str) -> None:
    assert told(seen, row) == (why, detail)
