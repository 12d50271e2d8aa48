"""Uplinks that are PPPoE sessions with the ISP's access concentrator: what is rendered dials, and tunnels go over it.

A session that falls silent, and one that the ISP ends to give another address, heal by themselves. Only a kernel that
has PPP can run it: the virtual machine's.
"""

import json
import time
from collections.abc import Iterator

import pytest
from vpn_lab import NETWORKS, Figure, Vpn, settled_lab, until, until_nothing

from dmvpn.daemon.control import UplinkRow
from dmvpn.lab.impairment import Change
from dmvpn.linux.pace import patience
from dmvpn.operations.linkage import Origin

pytestmark = [pytest.mark.lab, pytest.mark.vm, pytest.mark.wide]

DEVICE = "ppp-isp1"
SECOND = "203.0.113.2"
SILENT_LIMIT_S = 6.0  # as of any ISP that falls silent: probes know before the session does
ENDED_LIMIT_S = 3.0  # a device that is gone needs none
HEALED_LIMIT_S = 90.0


@pytest.fixture(scope="module")
def vpn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vpn]:
    directory = tmp_path_factory.mktemp("pppoe")
    secret = directory / "secrets" / "isp"
    secret.parent.mkdir()
    secret.write_text('a "strange" \\ one')
    secret.chmod(0o600)
    file = directory / "network.yaml"
    file.write_text(NETWORKS["pppoe"].read_text())
    with settled_lab(file, "pppoe") as vpn:
        yield vpn


def test_the_session_is_the_uplink_and_the_tunnels_go_over_it(vpn: Vpn) -> None:
    """On both planes."""
    for router, carrier, plane in (("par1", "eth0", "kernel"), ("lyo1", "eth0.7", "userspace")):
        assert [cloud.plane for cloud in vpn.status(router).clouds] == [plane]
        (address,) = session(vpn, router)
        assert address["origin"] == Origin.PPP
        device = link(vpn, router)
        assert device["mtu"] == 1492
        assert "POINTOPOINT" in device["flags"]
        # The cable below has no address: all there is goes through the session.
        assert json.loads(vpn.run(router, "ip", "-4", "-j", "address", "show", "dev", carrier).stdout) in ([], [{}])
        assert f"default dev {DEVICE} proto dhcp" in vpn.run(router, "ip", "route", "show", "default").text
    rows = until("the first uplink carries", lambda: carrying(vpn, "isp1"), within_s=HEALED_LIMIT_S)
    assert {name: row.state for name, row in rows.items()} == {"isp1": "online", "isp2": "online"}
    with vpn.flow("paris-pc", "lyon-pc") as flow, vpn.flow("paris-pc", "hq-pc") as to_hub:
        flow.until("direct", within_s=30)
        to_hub.until("direct", within_s=30)
    for router in ("par1", "lyo1"):
        until_nothing(f"{router} to be well", lambda router=router: vpn.ill(router), within_s=30)


def test_full_packets_go_through_it(vpn: Vpn) -> None:
    """The cloud's MTU is that of an underlay of 1492: with DF, not an octet more."""
    for router, host, computed in (("par1", "paris-pc", 1402), ("lyo1", "lyon-pc", 1372)):
        (cloud,) = vpn.status(router).clouds
        mtu = json.loads(vpn.run(router, "ip", "-j", "link", "show", cloud.device).stdout)[0]["mtu"]
        assert mtu == computed
        whole = ("ping", "-c", "1", "-W", "5", "-M", "do", "-s")
        assert vpn.run(host, *whole, str(mtu - 28), "10.1.0.10").status == 0
        assert vpn.run(host, *whole, str(mtu - 27), "10.1.0.10").status != 0


def test_a_session_that_falls_silent_is_left_and_is_taken_again_when_it_is_made_anew(vpn: Vpn, figure: Figure) -> None:
    before = link(vpn, "par1")["ifindex"]
    with vpn.flow("paris-pc", "hq-pc") as flow:
        flow.until("direct", within_s=30)
        flow.mark()
        began = time.monotonic()
        vpn.lab.impair("par1.isp1", Change(silent=True))
        try:
            until("the second ISP carries", lambda: carrying(vpn, "isp2"), within_s=30)
            flow.until("direct", within_s=30)
            gap_s = flow.gap_s()
            figure("a PPPoE session falls silent: a LAN host's ping answers by the second ISP after", gap_s)
            assert gap_s < patience(SILENT_LIMIT_S)
            assert endpoint_at_hub(vpn, "par1") == SECOND
            until("the session's end", lambda: not session(vpn, "par1"), within_s=60)
            figure("... and pppd has given the session up after", time.monotonic() - began)
        finally:
            vpn.lab.heal("par1.isp1")
        began = time.monotonic()
        until("a session again", lambda: session(vpn, "par1"), within_s=HEALED_LIMIT_S)
        figure("... the line returns: there is a session after", time.monotonic() - began)
        until("the tunnels are back on it", lambda: carrying(vpn, "isp1"), within_s=HEALED_LIMIT_S)
        figure("... and it carries the tunnels after", time.monotonic() - began)
        flow.until("direct", within_s=30)
    assert link(vpn, "par1")["ifindex"] != before


def test_an_isp_that_ends_the_session_and_gives_another_address(vpn: Vpn, figure: Figure) -> None:
    (before,) = session(vpn, "par1")
    with vpn.flow("paris-pc", "hq-pc") as flow:
        flow.until("direct", within_s=30)
        flow.mark()
        began = time.monotonic()
        given = str(vpn.lab.renumber("par1.isp1"))
        assert given != before["address"].partition("/")[0]
        until("the second ISP carries", lambda: carrying(vpn, "isp2"), within_s=30)
        flow.until("direct", within_s=30)
        gap_s = flow.gap_s()
        figure("the ISP ends a PPPoE session: a LAN host's ping answers by the second ISP after", gap_s)
        assert gap_s < patience(ENDED_LIMIT_S)
        until("the new address", lambda: has(vpn, "par1", given), within_s=HEALED_LIMIT_S)
        figure("... the spoke has another address after", time.monotonic() - began)
        until("the tunnels are back on it", lambda: carrying(vpn, "isp1"), within_s=HEALED_LIMIT_S)
        figure("... and it carries the tunnels after", time.monotonic() - began)
        until("the hub knows", lambda: endpoint_at_hub(vpn, "par1") == given, within_s=HEALED_LIMIT_S)
        flow.until("direct", within_s=30)


def test_a_spoke_of_one_session_heals_by_itself(vpn: Vpn, figure: Figure) -> None:
    with vpn.flow("lyon-pc", "hq-pc") as flow:
        flow.until("direct", within_s=30)
        began = time.monotonic()
        given = str(vpn.lab.renumber("lyo1.isp1"))
        until("the new address", lambda: has(vpn, "lyo1", given), within_s=HEALED_LIMIT_S)
        figure("a spoke's only PPPoE session is ended: another address after", time.monotonic() - began)
        flow.until("direct", within_s=HEALED_LIMIT_S)
        figure("... and a LAN host's ping answers after", time.monotonic() - began)
    assert endpoint_at_hub(vpn, "lyo1") == given
    assert vpn.dmvpn("lyo1", "status").status == 0


# ---------------------------------------------------------------- looking


def session(vpn: Vpn, router: str) -> list[dict[str, str]]:
    """The addresses that the uplink has, as status says them."""
    links = vpn.json(router, "status")["links"]
    found: list[dict[str, str]] = next(row["addresses"] for row in links if row["what"] == "uplink isp1")
    return found


def has(vpn: Vpn, router: str, address: str) -> bool:
    return [one["address"].partition("/")[0] for one in session(vpn, router)] == [address]


def link(vpn: Vpn, router: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(vpn.run(router, "ip", "-j", "link", "show", DEVICE).stdout)[0]
    return found


def carrying(vpn: Vpn, uplink: str) -> dict[str, UplinkRow] | None:
    """Paris's uplinks, if this one has all that there is."""
    rows = {row.name: row for row in vpn.status("par1").uplinks}
    others = [row for name, row in rows.items() if name != uplink and row.tunnels]
    return rows if rows[uplink].tunnels and not others else None


def endpoint_at_hub(vpn: Vpn, router: str) -> str:
    row = vpn.peer("hq1", router)
    return row.endpoint.rpartition(":")[0] if row is not None else ""
