"""Two encrypted clouds on the same routers: each has its device, key, MTU and shortcuts, and outlives the other's end.

OSPF of the cloud green knows Lyon's LAN itself, BGP of the cloud blue has the hub's summary alone: so what goes to the
LAN takes green while that is there, and what goes to an overlay address of blue takes blue.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from vpn_lab import NETWORKS, PLANE, UP_LIMIT_S, Vpn, on_this_kernel, until, until_nothing

from dmvpn.linux.services import Supervised
from dmvpn.operations import labs

pytestmark = [pytest.mark.lab, pytest.mark.both_planes(vm_is_wide=True)]

KEYS = {"two-blue": 11, "two-green": 22}
SPOKES = ("par1", "lyo1")
DEVICES = {"hq1": {"two-blue"}, "res1": {"two-green"}, **{spoke: set(KEYS) for spoke in SPOKES}}
LAN_OF_PARIS, LAN, BLUE_OF_LYON = "10.1.12.10", "10.1.13.10", "10.255.1.13"
LEARNT_S = 60.0  # OSPF: two hellos, the exchange, and a retransmission or two
DIRECT_S = 20.0


@pytest.fixture(scope="module")
def vpn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vpn]:
    file = tmp_path_factory.mktemp("clouds") / "network.yaml"
    file.write_text(on_this_kernel(NETWORKS["clouds"].read_text()))
    with labs.held(file, f"vpn-clouds-{os.getpid()}", lambda _progress: None) as lab:
        vpn = Vpn(lab)
        for router in ("hq1", *SPOKES):
            until_nothing(f"{router} to settle", partial(vpn.unsettled, router), within_s=UP_LIMIT_S)
        until("OSPF's way to Lyon", lambda: device_towards(vpn, LAN) == "two-green", within_s=LEARNT_S)
        until("and back", lambda: device_towards(vpn, LAN_OF_PARIS, "lyo1") == "two-green", within_s=LEARNT_S)
        yield vpn
        vpn.assert_no_traceback()


def device_towards(vpn: Vpn, address: str, router: str = "par1") -> str:
    words = vpn.run(router, "ip", "route", "get", address).text.split()
    return words[words.index("dev") + 1] if "dev" in words else ""


def shortcuts(vpn: Vpn, spoke: str = "par1") -> dict[str, set[str]]:
    """Which prefixes each cloud of the spoke has a direct way to."""
    rows = [row for row in vpn.status(spoke).peers if row.kind == "shortcut" and row.state.value == "direct"]
    return {
        cloud: {prefix for row in rows if row.cloud == cloud for prefix in row.prefixes} for cloud in ("blue", "green")
    }


def pings(vpn: Vpn, source: str, target: str) -> bool:
    return vpn.run("par1", "ping", "-c", "2", "-i", "0.3", "-W", "2", "-I", source, target).status == 0


def direct_in_blue(vpn: Vpn) -> bool:
    pings(vpn, "10.255.1.12", BLUE_OF_LYON)
    return f"{BLUE_OF_LYON}/32" in shortcuts(vpn)["blue"]


@contextmanager
def down(vpn: Vpn, router: str, device: str) -> Iterator[None]:
    """The cloud's device is down; what the kernel forgot with it is put back by the unit that keeps it."""
    vpn.node(router).run(("ip", "link", "set", device, "down"))
    try:
        yield
    finally:
        services = Supervised(vpn.lab.network, Path(vpn.layout.run))
        vpn.node(router).call(partial(services.reload, f"dmvpn-{vpn.lab.network}-network"))


def test_each_cloud_has_its_device_with_its_key_and_its_mtu(vpn: Vpn) -> None:
    for router, devices in DEVICES.items():
        clouds = {cloud.device: cloud for cloud in vpn.status(router).clouds}
        assert clouds.keys() == devices
        assert all(cloud.encrypted and cloud.plane == PLANE for cloud in clouds.values())
        for device in devices:
            (link,) = json.loads(vpn.run(router, "ip", "-details", "-json", "link", "show", device).stdout)
            assert link["mtu"] == clouds[device].mtu_octets
            if PLANE == "kernel":
                assert link["linkinfo"]["info_data"]["ikey"].endswith(f".{KEYS[device]}")
    (uplink,) = vpn.status("par1").uplinks
    assert {"blue to hq1", "green to res1"} <= set(uplink.tunnels)
    assert not {"green to hq1", "blue to res1"} & set(uplink.tunnels), "each cloud has the hubs that are in it"
    blue, green = (next(cloud for cloud in vpn.status("par1").clouds if cloud.device == device) for device in KEYS)
    assert green.mtu_octets > blue.mtu_octets, "what the file says of blue's underlay is blue's alone"


def test_both_clouds_have_shortcuts_at_once(vpn: Vpn) -> None:
    with vpn.flow("paris-pc", "lyon-pc") as flow:
        flow.until("direct", within_s=DIRECT_S)
        until("a shortcut in blue", lambda: direct_in_blue(vpn), within_s=DIRECT_S)
        flow.mark()
        assert pings(vpn, "10.255.1.12", BLUE_OF_LYON)
        assert flow.lost() == []
    assert "10.1.13.0/24" in shortcuts(vpn)["green"]
    rows = vpn.run("par1", "ip", "route", "show", "proto", "redirect").text
    assert re.search(rf"^{BLUE_OF_LYON} .*dev two-blue", rows, re.MULTILINE), rows
    assert re.search(r"^10\.1\.13\.0/24 .*dev two-green", rows, re.MULTILINE), rows


def test_the_end_of_the_first_cloud_costs_the_second_nothing(vpn: Vpn) -> None:
    with vpn.flow("paris-pc", "lyon-pc") as flow:
        flow.until("direct", within_s=DIRECT_S)
        # Both use the SA with Lyon: this end lets go of it, the other end finds blue's path dead.
        until("a shortcut in blue", lambda: direct_in_blue(vpn), within_s=DIRECT_S)
        flow.mark()
        with down(vpn, "par1", "two-blue"):
            until("blue to be missed", lambda: not pings(vpn, "10.255.1.12", BLUE_OF_LYON), within_s=DIRECT_S)
            until("Lyon to find it dead", lambda: not shortcuts(vpn, "lyo1")["blue"], within_s=DIRECT_S)
            flow.until("direct", within_s=DIRECT_S)
            assert flow.lost() == []
            assert all(packet.direct for packet in flow.stream.stretch())
    until("blue again", lambda: direct_in_blue(vpn), within_s=2 * LEARNT_S)


def test_what_the_second_cloud_carried_takes_the_first_when_it_ends(vpn: Vpn) -> None:
    """The last one: nothing is put back. Both ends lose green, or the far one's OSPF would miss it 40 s later."""
    with vpn.flow("paris-pc", "lyon-pc") as flow:
        flow.until("direct", within_s=DIRECT_S)
        for spoke in SPOKES:
            vpn.node(spoke).run(("ip", "link", "set", "two-green", "down"))
        until("the way by blue", lambda: device_towards(vpn, LAN) == "two-blue", within_s=LEARNT_S)
        flow.until("direct", within_s=LEARNT_S)
        until("Lyon's LAN in blue", lambda: "10.1.13.0/24" in shortcuts(vpn)["blue"], within_s=DIRECT_S)
