"""Sites in and out of a file: nothing else of it changes, not an octet, and the new numbers are free."""

from pathlib import Path

import pytest

from dmvpn.errors import WrongInput
from dmvpn.network.beginning import Beginning, first_file
from dmvpn.network.editing import add_site, remove_site
from dmvpn.network.loading import check, load
from dmvpn.network.plan import Role
from dmvpn.network.proposals import Wanted, new_site
from dmvpn.network.values import IPv4Network

ROOT = Path(__file__).parents[2]
EXAMPLES = [
    path
    for path in (*sorted(ROOT.glob("examples/*.yaml")), *sorted(ROOT.glob("tests/vpn/networks/*.yaml")))
    if "\nsteps:" not in path.read_text()
]

KEPT = """\
# the whole
version: 1
network:   acme   # aligned by hand
domain: "example.net"
prefixes:
- 10.0.0.0/8
clouds: {blue:  {overlay: ['10.255.1.0/24']}}
sites:
    hq:   # the head
        asn: 65000
        networks: { lan: {port: eth1, prefix: 10.1.0.0/24} }
        routers:
            hq1:
                uplinks: {wan: {port: eth0, address: [192.0.2.2/30], gateway: [192.0.2.1]}}
                tunnels: {blue: {role: hub, address: [10.255.1.1]}}

    # the branch in Paris
    # (rented)
    paris:
        asn: 65001
        routers:
            par1:
                uplinks: {isp1: {port: eth0, dhcp: true}}
                tunnels: {blue: {address: [10.255.1.11]}}
        # about Paris still

# after the sites
lab: {wan: {delay: 5ms}}
"""
ENDINGS = [pytest.param("\n", id="LF"), pytest.param("\r\n", id="CRLF")]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_site_is_added_and_the_rest_is_the_same_octets(ending: str) -> None:
    text = KEPT.replace("\n", ending)
    site = new_site(load(text, "x"), Wanted("oslo"))
    new = add_site(text, "x", "oslo", site).text
    cut = text.index("# after the sites")
    assert new.startswith(text[: cut - len(ending)])
    assert new.endswith(text[cut - len(ending) :])
    added = new[cut - len(ending) : len(new) - len(text[cut - len(ending) :])]
    assert added.replace("\r\n", "\n") == (
        "\n"
        "    oslo:\n"
        "      asn: 65002\n"
        "      networks: {lan: {port: eth1, prefix: 10.1.1.0/24}}\n"
        "      routers:\n"
        "        osl1:\n"
        "          uplinks: {isp1: {port: eth0, address: [198.51.100.2/30], gateway: [198.51.100.1]}}\n"
        "          tunnels: {blue: {address: [10.255.1.12]}}\n"
    )
    assert added.count("\r\n") == (8 if ending == "\r\n" else 0)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_site_goes_with_the_comments_about_it_and_nothing_else(ending: str) -> None:
    text = KEPT.replace("\n", ending)
    edited = remove_site(text, "x", "paris")
    begin, end = text.index("    # the branch in Paris"), text.index("# after the sites")
    assert edited.text == text[: begin - len(ending)] + text[end - len(ending) :]
    assert edited.removed_lines == text[begin:end].count("\n")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_what_was_added_to_an_example_can_be_removed_again(path: Path) -> None:
    text = path.read_bytes().decode()
    site = new_site(load(text, path.name), Wanted("nowhere"))
    more = add_site(text, path.name, "nowhere", site).text
    assert [str(finding) for finding in check(more, path.name) if not finding.warning] == []
    assert remove_site(more, path.name, "nowhere").text == text


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(KEPT.split("sites:")[0] + FLOW, id=name)
        for name, FLOW in (
            (
                "sites on one line",
                "sites: {hq: {asn: 65000, routers: {hq1: {uplinks: {w: {port: eth0, address: 192.0.2.2/30, gateway: "
                "192.0.2.1}}, tunnels: {blue: {role: hub, address: 10.255.1.1}}}}}}",
            ),
            (
                "a file without a last line's end",
                "sites:\n  hq: {asn: 65000, routers: {hq1: {uplinks: {w: {port: eth0, address: 192.0.2.2/30, gateway: "
                "192.0.2.1}}, tunnels: {blue: {role: hub, address: 10.255.1.1}}}}}",
            ),
        )
    ],
)
def test_other_forms_of_sites_are_edited_too(text: str) -> None:
    more = add_site(text, "x", "oslo", new_site(load(text, "x"), Wanted("oslo"))).text
    assert set(load(more, "x").sites) == {"hq", "oslo"}
    assert set(load(remove_site(more, "x", "oslo").text, "x").sites) == {"hq"}


def test_a_form_that_cannot_be_edited_is_left_to_its_author() -> None:
    odd = KEPT.split("sites:")[0] + "sites:\n  ? hq\n  : {asn: 65000, routers: {}}\n"
    with pytest.raises(WrongInput) as caught:
        add_site(odd, "x", "oslo", {"asn": 1})
    assert "in a form that cannot be edited" in caught.value.what
    assert caught.value.fix == "write it by hand: oslo: {asn: 1}"


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        pytest.param("rome", "there is no site rome; its sites are hq, paris", id="unknown"),
    ],
)
def test_a_site_that_is_not_there_is_not_removed(name: str, fault: str) -> None:
    with pytest.raises(WrongInput, match=fault):
        remove_site(KEPT, "x", name)


def test_the_last_site_stays() -> None:
    alone = remove_site(KEPT, "x", "paris").text
    with pytest.raises(WrongInput, match="hq is its only site"):
        remove_site(alone, "x", "hq")


# ------------------------------------------------------------------ what is proposed

DENSE = """
version: 1
network: acme
domain: example.net
prefixes: [10.0.0.0/22, 192.168.0.0/24]
clouds: {blue: {overlay: [10.0.0.0/28]}, green: {overlay: [10.0.0.16/28, "fd00::/120"], gre-key: 2}}
sites:
  hq:
    asn: 65000
    networks: {lan: {port: eth1, prefix: 10.0.2.0/24}}
    routers:
      hqx1:
        uplinks: {w: {port: eth0, address: [192.0.2.2/30], gateway: [192.0.2.1]}}
        tunnels: {blue: {role: hub, address: [10.0.0.1]}, green: {role: hub, address: [10.0.0.17, "fd00::1"]}}
  top:
    asn: 65009
    networks: {lan: {port: eth1, prefix: 10.0.3.0/24}}
    routers:
      par1:
        uplinks: {w: {port: eth0, address: [8.8.8.8/24], gateway: [8.8.8.1]}}
        tunnels: {blue: {address: [10.0.0.14]}}
"""


def test_where_nothing_is_left_above_the_first_gap_is_taken() -> None:
    text = DENSE.replace("fd00::/120", "10.9.0.0/28").replace(', "10.9.0.0/28"', "").replace(', "fd00::1"', "")
    site = new_site(load(text, "x"), Wanted("paris"))
    assert site["asn"] == 65010
    assert site["networks"]["lan"]["prefix"] == "10.0.1.0/24"
    assert list(site["routers"]) == ["par2"], "par1 is another site's"
    router = site["routers"]["par2"]
    assert router["tunnels"] == {"blue": {"address": ["10.0.0.2"]}, "green": {"address": ["10.0.0.18"]}}
    assert router["uplinks"] == {"isp1": {"port": "eth0", "dhcp": True}}, "a real network gets no example address"


def test_a_network_without_room_says_so() -> None:
    full = DENSE.replace("fd00::/120", "10.9.0.0/28").replace(', "10.9.0.0/28"', "").replace(', "fd00::1"', "")
    full = full.replace(
        "10.0.3.0/24}", "10.0.3.0/24}, b: {port: eth2, prefix: 10.0.1.0/24}, c: {port: eth3, prefix: 192.168.0.0/24}"
    )
    with pytest.raises(WrongInput, match="no /24 is free in it; add a prefix, or say --prefix"):
        new_site(load(full, "x"), Wanted("paris"))


def test_hubs_have_the_low_addresses() -> None:
    assert new_site(load(KEPT, "x"), Wanted("b", role=Role.HUB))["routers"]["b1"]["tunnels"] == {
        "blue": {"role": "hub", "address": ["10.255.1.2"]}
    }


@pytest.mark.parametrize("taken", ["hq", "paris"])
def test_a_name_is_given_once(taken: str) -> None:
    with pytest.raises(WrongInput, match="there is a site of that name"):
        new_site(load(KEPT, "x"), Wanted(taken))


def test_an_unknown_cloud_is_no_cloud() -> None:
    with pytest.raises(WrongInput, match="there is no such cloud"):
        new_site(load(KEPT, "x"), Wanted("oslo", clouds=("red",)))


def test_the_numbers_run_on() -> None:
    text = KEPT
    for number in range(12):
        text = add_site(text, "x", f"s{number}", new_site(load(text, "x"), Wanted(f"s{number}"))).text
    assert [finding for finding in check(text, "x") if not finding.warning] == []
    assert len(load(text, "x").sites) == 14


@pytest.mark.parametrize("prefix", ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "10.4.0.0/22"])
@pytest.mark.parametrize("sites", [(), ("paris",), ("a", "b", "c")], ids=len)
def test_a_first_file_is_good(prefix: str, sites: tuple[str, ...]) -> None:
    internal = IPv4Network(prefix)
    overlay = list(internal.subnets(new_prefix=24))[-1]
    known = Wanted("hq")
    hub = load(KEPT, "x").sites["hq"].routers["hq1"].uplinks["wan"]
    asked = Beginning("acme", "example.net", internal, overlay, "hq", hub.address[0], hub.gateway[0], None, sites[:2])
    text = first_file(asked)
    assert [str(finding) for finding in check(text, "x")] == []
    assert set(load(text, "x").sites) == {known.name, *sites[:2]}
    assert max(map(len, text.splitlines())) <= 110
