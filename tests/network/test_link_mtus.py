"""How wide the devices below networks and uplinks are, when they share a port."""

import pytest

from dmvpn.network.compile import compile_plan
from dmvpn.network.loading import load
from dmvpn.network.plan import Plan

NETWORK = """\
version: 1
network: acme
domain: example.net
prefixes: [10.0.0.0/8]
clouds: {{blue: {{overlay: [10.255.1.0/24]}}}}
sites:
  hq:
    asn: 65000
    networks:
      lan: {{port: {port}, vlan: 8, prefix: 10.1.8.0/24{lan}}}
      guest: {{port: {port}, vlan: 96, prefix: 10.1.96.0/24{guest}}}
    routers:
      hq1:
        ports: {{bond0: {{members: [eth1, eth2]{bond}}}}}
        uplinks: {{wan: {{port: eth0, address: [192.0.2.2/30], gateway: [192.0.2.1]}}}}
        tunnels: {{blue: {{role: hub, address: [10.255.1.1]}}}}
"""


def planned(port: str, *, lan: int | None = None, guest: int | None = None, bond: int | None = None) -> Plan:
    def said(mtu: int | None) -> str:
        return "" if mtu is None else f", mtu: {mtu}"

    return compile_plan(load(NETWORK.format(port=port, lan=said(lan), guest=said(guest), bond=said(bond)), "a"), "hq1")


@pytest.mark.parametrize(
    ("said", "below", "lan", "guest"),
    [
        pytest.param({}, None, None, None, id="nobody says anything"),
        pytest.param({"lan": 1400}, None, 1400, None, id="a narrow one is its own alone"),
        pytest.param({"lan": 1400, "guest": 1300}, 1400, 1400, 1300, id="all are narrow"),
        pytest.param({"lan": 9000}, 9000, 9000, 1500, id="a wide one is not its neighbour's"),
        pytest.param({"lan": 9000, "guest": 1400}, 9000, 9000, 1400, id="both say"),
    ],
)
def test_a_port_is_as_wide_as_the_widest_on_it_and_takes_from_none(
    said: dict[str, int], below: int | None, lan: int | None, guest: int | None
) -> None:
    for port in ("eth3", "bond0"):
        plan = planned(port, **said)
        mtus = {one.name: one.mtu_octets for one in (*plan.ports, *plan.bonds, *plan.vlans)}
        assert (mtus[port], mtus[f"{port}.8"], mtus[f"{port}.96"]) == (below, lan, guest)


def test_what_a_bond_says_itself_is_for_all_on_it() -> None:
    plan = planned("bond0", bond=9000)
    assert [one.mtu_octets for one in (*plan.bonds, *plan.vlans)] == [9000, None, None]
