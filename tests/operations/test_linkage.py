"""What status says of links: carrier, members, and where each address is from."""

from ipaddress import ip_interface
from pathlib import Path

from dmvpn.linux.netstate_facts import BondFacts, LinkFacts
from dmvpn.linux.netstate_file import DeviceAddress
from dmvpn.network.compile import compile_plan
from dmvpn.network.loading import load
from dmvpn.network.plan import Plan
from dmvpn.operations.linkage import AddressRow, Condition, LinkRow, MemberRow, Origin, rows_of

WIKI = (Path(__file__).parents[2] / "examples/wiki.yaml").read_text()
BOND = BondFacts(mode=1, miimon_ms=100, updelay_ms=200, lacp_rate=0, primary=2, active=2)


def plan(text: str = WIKI) -> Plan:
    return compile_plan(load(text, "wiki.yaml"), "vpnc", secrets={"secrets/isp2": b"x"})


def link(index: int, name: str, kind: str = "", *, carrier: bool = True, bond: BondFacts | None = None) -> LinkFacts:
    return LinkFacts(index, name, kind, mac="", mtu_octets=1500, up=True, carrier=carrier, bond=bond)


def rows(*links: LinkFacts, addresses: tuple[tuple[str, str], ...] = ()) -> dict[str, LinkRow]:
    seen = {DeviceAddress(device, ip_interface(address)) for device, address in addresses}
    made = frozenset(one.name for one in links if one.kind in ("bond", "vlan"))
    return {row.what: row for row in rows_of(plan(), made, {one.name: one for one in links}, seen)}


def test_a_bond_says_which_member_works_and_what_is_wrong_with_the_other() -> None:
    found = rows(link(1, "bond0", "bond", bond=BOND), link(2, "eth0"), link(3, "eth1", carrier=False))["bond bond0"]
    assert found.members == (
        MemberRow("eth0", Condition.UP, active=True),
        MemberRow("eth1", Condition.NO_CARRIER, active=False),
    )
    assert found.trouble == "bond bond0: eth1 has no carrier"


def test_where_an_address_is_from() -> None:
    found = rows(
        link(4, "bond0.256", "vlan"),
        link(5, "ppp-isp2", "ppp"),
        link(6, "bond0.8", "vlan"),
        addresses=(
            ("bond0.256", "198.51.100.2/30"),
            ("bond0.256", "203.0.113.9/24"),
            ("ppp-isp2", "203.0.113.77/32"),
            ("bond0.8", "10.1.8.1/24"),
            ("bond0.8", "fe80::1/64"),
        ),
    )
    assert found["uplink isp1"].addresses == (
        AddressRow("198.51.100.2/30", Origin.STATIC),
        AddressRow("203.0.113.9/24", Origin.OTHER),
    )
    assert found["uplink isp2"].addresses == (AddressRow("203.0.113.77/32", Origin.PPP),)
    assert found["network lan"].addresses == (AddressRow("10.1.8.1/24", Origin.STATIC),)
    assert found["network lan"].trouble == ""


def test_what_is_not_there_is_a_trouble_but_no_bond_that_others_stand_for() -> None:
    found = rows(link(4, "bond0.256", "veth"), link(6, "bond0.8", "veth", carrier=False))
    assert (found["bond bond0"].condition, found["bond bond0"].trouble) == (Condition.MISSING, "")
    assert found["uplink isp2"].trouble == "uplink isp2: ppp-isp2 is missing"
    assert found["network lan"].trouble == "network lan: bond0.8 has no carrier"
    assert found["uplink isp1"].trouble == ""


def test_a_session_without_an_address_waits_for_its_server() -> None:
    assert (
        rows(link(5, "ppp-isp2", "ppp"))["uplink isp2"].trouble
        == "uplink isp2: no address from the ISP's PPPoE server yet"
    )
