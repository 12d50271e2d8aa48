"""What the switch at a router must carry."""

from pathlib import Path

import pytest

from dmvpn.network.cabling import AccessPort, Carried, cabling
from dmvpn.network.compile import compile_plan
from dmvpn.network.loading import load

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_wikis_switch() -> None:
    """Its page tags all VLANs on one port, and has the first ISP at a switch port with VLAN 256 untagged."""
    network = load((EXAMPLES / "wiki.yaml").read_text(), "wiki.yaml")
    found = cabling(compile_plan(network, "vpnc", secrets={"secrets/isp2": b"x"}))
    eth0, eth1 = found.ports
    assert [(one.vlan_id, one.what) for one in eth0.tagged] == [
        (3, "management"),
        (8, "lan"),
        (64, "dmz"),
        (80, "voice"),
        (96, "guest"),
        (256, "isp1"),
        (257, "isp2"),
    ]
    assert (eth0.tagged, eth0.untagged, eth0.bond) == (eth1.tagged, (), "bond0")
    assert AccessPort("the CPE of uplink isp1", 256) in found.access
    assert AccessPort("hosts of network guest", 96) in found.access
    assert found.notes == ("eth0 and eth1: may be on two switches, and on one without any setting",)


@pytest.mark.parametrize(
    ("mode", "note"),
    [
        ("active-backup", "eth1: the only member of bond0, so that nothing takes over for it"),
        (
            "802.3ad",
            "eth1: the only member of bond0, so that nothing takes over for it; must be an LACP group by itself",
        ),
    ],
)
def test_a_bond_of_one_is_on_one_switch(mode: str, note: str) -> None:
    text = (EXAMPLES / "minimal.yaml").read_text()
    text = text.replace("port: eth1, prefix: 10.1.1.0/24", "port: bond0, prefix: 10.1.1.0/24")
    text = text.replace("      par1:\n", f"      par1:\n        ports: {{bond0: {{members: eth1, mode: {mode}}}}}\n")
    assert cabling(compile_plan(load(text, "x.yaml"), "par1")).notes == (note,)


def test_without_vlans_there_is_nothing_to_tag() -> None:
    network = load((EXAMPLES / "minimal.yaml").read_text(), "minimal.yaml")
    found = cabling(compile_plan(network, "par1"))
    assert [(one.port, one.untagged, one.tagged) for one in found.ports] == [
        ("eth0", ("isp1",), ()),
        ("eth1", ("lan",), ()),
    ]
    assert found.access == ()


def test_tagged_and_untagged_on_one_port() -> None:
    text = (EXAMPLES / "minimal.yaml").read_text()
    text = text.replace(
        "prefix: 10.1.1.0/24}}", "prefix: 10.1.1.0/24}, dmz: {port: eth1, vlan: 64, prefix: 10.1.64.0/24}}"
    )
    (_, eth1) = cabling(compile_plan(load(text, "x.yaml"), "par1")).ports
    assert (eth1.untagged, eth1.tagged) == (("lan",), (Carried(64, "dmz"),))
