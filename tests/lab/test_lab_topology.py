"""The topology that follows from a file, and what the file must say for it."""

import pytest
from lab_plans import demo, demo_topology

from dmvpn.errors import WrongInput
from dmvpn.lab.derive import topology_of
from dmvpn.lab.graph import mermaid
from dmvpn.lab.topology import NodeKind
from dmvpn.network.lab_model import Lab

TWO = ("par1", "lyo1")


def lab(**sections: object) -> Lab:
    network, _ = demo()
    whole = network.lab.model_dump(by_alias=True, exclude_unset=True)
    return Lab.model_validate({**_plain(whole), **sections})


def _plain(value: object) -> dict[str, object]:
    """Addresses as the file writes them."""

    def walk(part: object) -> object:
        if isinstance(part, dict):
            return {key: walk(member) for key, member in part.items() if member is not None}
        return part if isinstance(part, int | float | str) else str(part)

    walked = walk(value)
    assert isinstance(walked, dict)
    return walked


def test_the_demo_has_every_kind_of_node() -> None:
    topology = demo_topology()
    names = {kind: sorted(node.name for node in topology.of_kind(kind)) for kind in NodeKind}
    assert names == {
        NodeKind.ROUTER: ["hel1", "hq1", "lyo1", "osl1", "par1"],
        NodeKind.HOST: ["helsinki-pc", "hq-pc", "lyon-pc", "oslo-pc", "paris-pc"],
        NodeKind.NAT: ["hel1-isp1-nat", "lyo1-isp1-nat", "par1-isp1-nat"],
        NodeKind.WAN: ["internet"],
        NodeKind.SWITCH: [],
    }
    assert {router: [str(a) for a in seen] for router, seen in topology.outside.items()} == {
        "hq1": ["192.0.2.2"],
        "hel1": ["203.0.113.11"],
        "par1": ["203.0.113.12"],
        "lyo1": ["203.0.113.13"],
        "osl1": ["198.51.100.2"],
    }


def test_every_end_of_a_link_is_a_device_of_its_own() -> None:
    ends = [end for link in demo_topology().links.values() for end in (link.a, link.b)]
    assert len(ends) == len(set(ends))
    assert all(len(end.device) <= 15 for end in ends)


def test_an_uplink_may_be_behind_the_nat_box_of_another() -> None:
    owner = {"nat": {"kind": "port-restricted", "public": "203.0.113.12"}}
    _, plans = demo()
    topology = topology_of(lab(uplinks={"par1.isp1": owner, "lyo1.isp1": {"nat": {"behind": "par1.isp1"}}}), plans)
    boxes = {node.name: node.bridges for node in topology.of_kind(NodeKind.NAT)}
    assert boxes["par1-isp1-nat"] == {"inside": ["port0", "port1"]}
    assert "lyo1-isp1-nat" not in boxes
    assert topology.outside["par1"] == topology.outside["lyo1"]
    assert '{{"par1-isp1-nat<br/>port-restricted NAT, 203.0.113.12"}}' in mermaid(topology)


def test_three_members_of_a_network_get_a_switch() -> None:
    _, plans = demo()
    hosts = {name: {"network": "hq.lan", "address": f"10.1.0.{last}"} for name, last in (("x", 10), ("y", 11))}
    topology = topology_of(lab(hosts=hosts), plans)
    switches = {node.name: len(node.bridges["bridge"]) for node in topology.of_kind(NodeKind.SWITCH)}
    assert switches["hq-lan-switch"] == 3


def test_wan_routers_reach_everything_over_one_another() -> None:
    _, plans = demo()
    routers = {"internet": {"links": {"isp": {"delay": "5ms"}}}, "isp": {"links": {"far": {}}}, "far": {}}
    uplinks = {"osl1.isp1": {"at": "far"}}
    topology = topology_of(lab(routers=routers, uplinks=uplinks), plans)
    way = next(route for route in topology.nodes["internet"].routes if route.prefix == "198.51.100.2/32")
    assert (str(way.via), way.device, way.onlink) == ("198.18.0.2", "to-isp", True)
    assert topology.links["internet.isp"].up is not None


@pytest.mark.parametrize(
    ("sections", "fault"),
    [
        pytest.param(
            {"uplinks": {"osl1.isp1": {"at": "mars"}}},
            "lab.uplinks.osl1.isp1.at: no WAN router mars; use one of internet",
            id="no such WAN router",
        ),
        pytest.param(
            {"uplinks": {"par1.isp1": {"at": "internet", "nat": {"kind": "port-restricted"}}}},
            "lab.uplinks.par1.isp1.nat.public: a NAT needs an IPv4 address on the WAN; give it one",
            id="a NAT without a public address",
        ),
        pytest.param(
            {"uplinks": {f"{name}.isp1": {"nat": {"kind": "symmetric", "public": "203.0.113.5"}} for name in TWO}},
            "lyo1-isp1-nat: 203.0.113.5 is another uplink's; write behind: ROUTER.UPLINK",
            id="two NATs with one address",
        ),
        pytest.param(
            {"hosts": {"x": {"network": "hq.dmz", "address": "10.1.0.9"}}},
            "lab.hosts.x.network: no network hq.dmz on a router; write SITE.NETWORK",
            id="no such network",
        ),
        pytest.param(
            {"hosts": {"x": {"network": "hq.lan", "address": "10.9.0.9"}}},
            "lab.hosts.x.address: 10.9.0.9 is not in hq.lan; use an address of its prefix",
            id="address outside",
        ),
        pytest.param(
            {"hosts": {"hq1": {"network": "hq.lan", "address": "10.1.0.9"}}},
            "lab: two nodes are named hq1; rename the host, router or WAN router",
            id="a host named as a router",
        ),
        pytest.param(
            {"routers": {"internet": {"links": {"nowhere": {}}}}},
            "lab.routers.internet.links.nowhere: no such WAN router; name one of lab.routers",
            id="link to nowhere",
        ),
    ],
)
def test_a_lab_section_that_cannot_be_built_says_why(sections: dict[str, object], fault: str) -> None:
    _, plans = demo()
    with pytest.raises(WrongInput) as caught:
        topology_of(lab(**sections), plans)
    assert str(caught.value) == fault


def test_the_graph_is_mermaid_with_every_node_and_link() -> None:
    topology = demo_topology()
    lines = mermaid(topology).splitlines()
    assert lines[0] == "flowchart LR"
    assert sum(" ---" in line for line in lines) == len(topology.links)
    assert '  n1["hq1<br/>192.0.2.2"]' in lines
    assert '  n1 ---|"delay 6 ms, rate 200M"| n0' in lines
