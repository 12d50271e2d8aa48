"""A spoke with a tunnel over each ISP: one ISP dies, and what goes over the other loses nothing."""

from collections.abc import Iterator

import pytest
from vpn_lab import NETWORKS, Vpn, on_this_kernel, settled_lab, until

from dmvpn.lab.impairment import Change

pytestmark = pytest.mark.lab
CLOUDS = "clouds:\n"
# With a bandwidth, hubs tell of each network by itself: of two summaries alone only one would be taken.
GREEN = "  green: {overlay: [10.255.2.0/24], gre-key: 2, phase: 3, routing: bgp, plane: userspace, bandwidth: 10M}\n"
BLUE_AT_PARIS = "tunnels: {blue: {address: [10.255.1.12], over: [isp1, isp2]}}"
BOTH_AT_PARIS = (
    "tunnels: {blue: {address: [10.255.1.12], over: [isp1, isp2]}, green: {address: [10.255.2.12], over: [isp2, isp1]}}"
)
POLICY = "policy:\n"
BONN = """\
  bonn:
    asn: 65004
    networks: {lan: {port: eth1, prefix: 10.1.14.0/24}}
    routers:
      bon1:
        transport: 100.64.0.14
        uplinks: {wan: {port: eth0, address: [192.0.2.6/30], gateway: [192.0.2.5]}}
        tunnels: {green: {role: hub, address: [10.255.2.1]}}

"""
HOST = "    paris-pc:"
BONN_PC = "    bonn-pc: {network: bonn.lan, address: 10.1.14.10}\n"
# Bonn is in another cloud than Lyon, and Paris passes nothing on between them.
UNTOLD = ("10.1.14.10", "10.1.13.10", "10.1.0.10", "10.1.0.11")


@pytest.fixture(scope="module")
def vpn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vpn]:
    text = NETWORKS["uplinks"].read_text()
    for place, new in (
        (CLOUDS, CLOUDS + GREEN),
        (BLUE_AT_PARIS, BOTH_AT_PARIS),
        (POLICY, BONN + POLICY),
        (HOST, BONN_PC + HOST),
    ):
        assert text.count(place) == 1, place
        text = text.replace(place, new)
    file = tmp_path_factory.mktemp("apart") / "network.yaml"
    file.write_text(on_this_kernel(text))
    with settled_lab(file, "apart", UNTOLD) as vpn:
        yield vpn


def tunnels(vpn: Vpn) -> dict[str, tuple[str, ...]]:
    return {row.name: row.tunnels for row in vpn.status("par1").uplinks}


@pytest.mark.parametrize("dying", ["isp1", "isp2"])
def test_only_what_goes_over_the_dead_uplink_is_touched(vpn: Vpn, dying: str) -> None:
    apart = {"isp1": ("blue to hq1",), "isp2": ("green to bon1",)}
    until("each cloud on its uplink", lambda: tunnels(vpn) == apart, within_s=30)
    target = {"isp1": "bonn-pc", "isp2": "hq-pc"}[dying]
    with vpn.flow("paris-pc", target) as beside:
        beside.until("direct", within_s=15)
        beside.mark()
        vpn.lab.impair(f"par1.{dying}", Change(silent=True))
        try:
            until("the other uplink has both", lambda: len(tunnels(vpn)[dying]) == 0, within_s=20)
            assert beside.lost() == []
        finally:
            vpn.lab.heal(f"par1.{dying}")
        until("each on its own again", lambda: tunnels(vpn) == apart, within_s=30)
        assert beside.lost() == []
        assert len(beside.stream.stretch()) > 100
