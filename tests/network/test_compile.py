"""Plans: every router of ours gets one, they agree with each other, and a new site changes no other spoke's."""

from dataclasses import asdict, replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dmvpn.errors import Problems, WrongInput
from dmvpn.network.compile import compile_plan, routers, secret_files
from dmvpn.network.loading import check, load, load_with_warnings
from dmvpn.network.model import Network
from dmvpn.network.plan import Cloud, Plan, Plane, Protocol, Role
from dmvpn.network.registry import device_name, nflog_group, registry

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = ("minimal", "demo", "figure2", "ospf", "ospf6", "rip", "wiki")
SECRETS = {"secrets/nhrp": b"Muenchen\n", "secrets/isp2": b"isp secret\n"}


def example(name: str) -> Network:
    return load((EXAMPLES / f"{name}.yaml").read_text(), f"{name}.yaml")


def plans(name: str) -> dict[str, Plan]:
    network = example(name)
    return {router: compile_plan(network, router, secrets=SECRETS) for router in routers(network)}


ALL = [pytest.param(plan, id=f"{name}-{router}") for name in NAMES for router, plan in plans(name).items()]


def test_the_repository_has_these_examples() -> None:
    networks = {path.stem for path in EXAMPLES.glob("*.yaml") if "\nsteps:" not in path.read_text()}
    assert networks == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_an_example_has_not_even_a_warning(name: str) -> None:
    assert check((EXAMPLES / f"{name}.yaml").read_text(), name) == []


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("minimal", ["hq1", "par1", "osl1"]),
        ("demo", ["hq1", "hel1", "par1", "lyo1", "osl1"]),
        ("figure2", ["hq1", "ber1", "ber2", "mun1", "col1", "aac1"]),
        ("wiki", ["hub1", "hub2", "vpnc"]),
    ],
)
def test_our_routers_have_a_plan(name: str, ours: list[str]) -> None:
    assert list(plans(name)) == ours


@pytest.mark.parametrize("plan", ALL)
def test_a_plan_is_whole(plan: Plan) -> None:
    assert plan.transport in plan.transport_range
    assert plan.clouds
    assert plan.uplinks
    assert plan.ike.identity == f"{plan.router}.{plan.domain}"
    assert plan.registry.ike_priority < plan.registry.uplink_priority < 32766
    assert len({cloud.plane for cloud in plan.clouds}) == 1
    assert len({cloud.nflog_group for cloud in plan.clouds}) == len(plan.clouds)
    for lan in plan.lans:
        assert lan.device
        assert lan.address.network == lan.prefix
    for cloud in plan.clouds:
        _cloud_is_whole(plan, cloud)


def _cloud_is_whole(plan: Plan, cloud: Cloud) -> None:
    assert len(cloud.device.encode()) <= 15
    assert cloud.mss_v4_octets == cloud.mtu_octets - 40
    assert cloud.mss_v6_octets == cloud.mtu_octets - 60
    assert set(cloud.uplinks) <= {uplink.name for uplink in plan.uplinks}
    assert cloud.role is Role.HUB or cloud.hubs
    assert plan.router not in {hub.router for hub in cloud.hubs}
    assert all(hub.endpoints for hub in cloud.hubs)
    assert (cloud.bgp is not None) == (cloud.routing is Protocol.BGP)
    assert (cloud.ospf is not None) == (cloud.routing is Protocol.OSPF)
    if cloud.bgp is not None and cloud.role is Role.SPOKE:
        assert cloud.bgp.announce == plan.serves
        assert cloud.bgp.accept == plan.prefixes
        assert {neighbor.name for neighbor in cloud.bgp.neighbors} == {hub.router for hub in cloud.hubs}
    if cloud.bgp is not None and cloud.role is Role.HUB:
        assert cloud.bgp.listen == cloud.overlay
        assert set(cloud.bgp.refuse) >= {*cloud.overlay, plan.transport_range, *plan.serves}


@pytest.mark.parametrize("name", NAMES)
def test_hubs_are_told_to_spokes_as_they_are(name: str) -> None:
    of = plans(name)
    for plan in of.values():
        for cloud in plan.clouds:
            for hub in cloud.hubs:
                if hub.ours:
                    theirs = next(other for other in of[hub.router].clouds if other.name == cloud.name)
                    assert (hub.nbma, hub.overlay, hub.asn) == (
                        of[hub.router].transport,
                        theirs.addresses,
                        of[hub.router].asn,
                    )
                    assert (theirs.gre_key, theirs.device) == (cloud.gre_key, cloud.device)


def test_the_demo_is_what_the_lab_expects() -> None:
    of = plans("demo")
    assert [str(plan.transport) for plan in of.values()] == [f"100.64.0.{last}" for last in (1, 11, 12, 13, 14)]
    assert {cloud.device for plan in of.values() for cloud in plan.clouds} == {"acme-blue"}
    assert {cloud.mtu_octets for plan in of.values() for cloud in plan.clouds} == {1372}
    assert {cloud.plane for plan in of.values() for cloud in plan.clouds} == {Plane.USERSPACE}
    assert of["par1"].uplinks[0].addresses == of["lyo1"].uplinks[0].addresses
    assert all(plan.not_rendered == () for plan in of.values())


def test_a_foreign_hub_is_known_by_its_underlay_address() -> None:
    (hub,) = plans("figure2")["ber2"].clouds[0].hubs
    assert (hub.router, hub.ours, str(hub.nbma)) == ("hq2", False, "192.0.2.6")
    assert plans("figure2")["ber2"].clouds[0].nhrp.authentication == b"Muenchen"


def test_a_name_of_all_hubs_comes_after_the_addresses() -> None:
    hubs = plans("wiki")["vpnc"].clouds[0].hubs
    assert [hub.endpoints for hub in hubs] == [
        (ip_address("192.0.2.2"), "hub.example.com"),
        (ip_address("192.0.2.3"), "hub.example.com"),
    ]


def test_a_guest_network_is_not_announced() -> None:
    plan = plans("wiki")["vpnc"]
    assert ip_network("10.1.96.0/24") in {lan.prefix for lan in plan.lans}
    assert ip_network("10.1.96.0/24") not in plan.serves


def test_what_no_engine_renders_is_named() -> None:
    named = plans("wiki")["vpnc"].not_rendered
    for key in (
        "sites.location1.networks.lan.dhcp",
        "sites.location1.services.dns-zone",
        "road-warriors",
    ):
        assert key in named
    assert "policy" not in named
    assert "clouds.green.routing" not in plans("figure2")["aac1"].not_rendered


@pytest.mark.parametrize(
    ("router", "fault"),
    [
        pytest.param(
            "hq2",
            "corp: hq2 is a cisco-ios router: it has no plan, because nothing of ours runs on it; "
            "write its own configuration with: dmvpn render hq2",
            id="foreign",
        ),
        pytest.param("mun2", "corp: no router is called mun2; did you mean mun1?", id="misspelt"),
    ],
)
def test_who_has_no_plan_is_told_so(router: str, fault: str) -> None:
    with pytest.raises(WrongInput) as caught:
        compile_plan(example("figure2"), router, secrets=SECRETS)
    assert str(caught.value) == fault
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("secrets", "fault"),
    [
        pytest.param({}, "secrets/nhrp: the NHRP secret was not read; put it there, with mode 0600", id="missing"),
        pytest.param(
            {"secrets/nhrp": b"123456789"},
            "secrets/nhrp: the NHRP secret has 9 octets; use 1 to 8, as Cisco does",
            id="too long",
        ),
        pytest.param(
            {"secrets/nhrp": b"\n"},
            "secrets/nhrp: the NHRP secret has 0 octets; use 1 to 8, as Cisco does",
            id="empty",
        ),
    ],
)
def test_a_secret_that_is_not_there_is_not_left_out(secrets: dict[str, bytes], fault: str) -> None:
    network = example("figure2")
    assert secret_files(network, "ber2") == ("secrets/nhrp",)
    assert secret_files(network, "ber1") == ()
    with pytest.raises(WrongInput) as caught:
        compile_plan(network, "ber2", secrets=secrets)
    assert str(caught.value) == fault


@pytest.mark.parametrize(
    ("word", "planes", "plane"),
    [
        pytest.param("auto", (Plane.USERSPACE,), Plane.USERSPACE, id="auto, no modules"),
        pytest.param("auto", (Plane.USERSPACE, Plane.KERNEL), Plane.KERNEL, id="auto, both"),
        pytest.param("userspace", (Plane.KERNEL,), Plane.USERSPACE, id="forced userspace"),
        pytest.param("kernel", (Plane.USERSPACE,), Plane.KERNEL, id="forced kernel; apply refuses later"),
    ],
)
def test_the_plane_is_chosen(word: str, planes: tuple[Plane, ...], plane: Plane) -> None:
    text = (EXAMPLES / "demo.yaml").read_text().replace("routing: bgp", f"routing: bgp, plane: {word}")
    assert compile_plan(load(text, "demo"), "par1", planes=planes).clouds[0].plane is plane


def site(number: int) -> str:
    return (
        f"  new{number}:\n    asn: {4200000000 + number}\n"
        f"    networks: {{lan: {{port: eth1, prefix: 10.9.{number}.0/24}}}}\n    routers:\n      new{number}:\n"
        f"        uplinks: {{isp1: {{port: eth0, dhcp: true}}}}\n"
        f"        tunnels: {{blue: {{address: [10.255.1.{100 + number}]}}}}\n"
    )


@settings(max_examples=25, deadline=None)
@given(
    numbers=st.lists(st.integers(0, 100), unique=True, min_size=1, max_size=8), where=st.sampled_from(["first", "last"])
)
def test_a_new_site_changes_no_other_spokes_plan(numbers: list[int], where: str) -> None:
    text = (EXAMPLES / "demo.yaml").read_text()
    more = "".join(site(number) for number in numbers)
    grown = text.replace("sites:\n", "sites:\n" + more) if where == "first" else text.replace("\nlab:", f"{more}\nlab:")
    before, after = load(text, "demo"), load(grown, "demo")
    assert len(routers(after)) == len(routers(before)) + len(numbers)
    for router in routers(before):
        assert repr(compile_plan(before, router)) == repr(compile_plan(after, router)), router


def test_a_new_hub_is_the_only_news_of_a_spoke() -> None:
    text = (EXAMPLES / "demo.yaml").read_text()
    grown = load(
        text.replace(
            "\nlab:",
            site(7)
            .replace("{address:", "{role: hub, address:")
            .replace("dhcp: true", "address: [192.0.2.6/30], gateway: [192.0.2.5]")
            + "\nlab:",
        ),
        "demo",
    )
    before, after = compile_plan(load(text, "demo"), "par1"), compile_plan(grown, "par1")
    (old,), (new,) = before.clouds, after.clouds
    assert [hub.router for hub in new.hubs] == ["hq1", "new7"]
    bgp = replace(new.bgp, neighbors=old.bgp.neighbors) if new.bgp and old.bgp else None
    assert asdict(replace(after, clouds=(replace(new, hubs=old.hubs, bgp=bgp),))) == asdict(before)


@pytest.mark.parametrize(
    ("network", "cloud", "device"),
    [
        pytest.param("acme", "blue", "acme-blue", id="plain"),
        pytest.param("acme", "abcdefghij", "acme-abcdefghij", id="just fifteen"),
        pytest.param("acme", "abcdefghijk", "acme-abcde-d186", id="shortened"),
        pytest.param("acme", "abcdefghijl", "acme-abcde-b172", id="shortened, another"),
    ],
)
def test_a_device_carries_the_networks_name(network: str, cloud: str, device: str) -> None:
    assert device_name(network, cloud) == device
    assert len(device) <= 15


def test_the_numbers_stay_and_differ_between_networks() -> None:
    assert registry("acme") == registry("acme")
    assert nflog_group("acme", "blue") == 32326
    mark = registry("acme").ike_mark
    assert mark.value & ~mark.mask == 0


def test_both_families_go_through_one_cloud() -> None:
    text = (EXAMPLES / "demo.yaml").read_text()
    for old, new in (
        ("prefixes: [10.0.0.0/8]", 'prefixes: [10.0.0.0/8, "fd00::/8"]'),
        ("overlay: [10.255.1.0/24]", 'overlay: [10.255.1.0/24, "fd00:255:1::/64"]'),
        ("prefix: 10.1.12.0/24", 'prefix: [10.1.12.0/24, "fd00:1:12::/64"]'),
        ("address: [10.255.1.1]", 'address: [10.255.1.1, "fd00:255:1::1"]'),
        ("address: [10.255.1.12]", 'address: [10.255.1.12, "fd00:255:1::12"]'),
    ):
        assert old in text
        text = text.replace(old, new)
    network = load(text, "demo")
    plan = compile_plan(network, "par1")
    assert [str(lan.address) for lan in plan.lans] == ["10.1.12.1/24", "fd00:1:12::1/64"]
    assert [str(prefix) for prefix in plan.serves] == ["10.1.12.0/24", "fd00:1:12::/64"]
    bgp, other = plan.clouds[0].bgp, compile_plan(network, "osl1").clouds[0].bgp
    assert bgp is not None
    assert other is not None
    assert [str(neighbor.address) for neighbor in bgp.neighbors] == ["10.255.1.1", "fd00:255:1::1"]
    assert [str(neighbor.address) for neighbor in other.neighbors] == ["10.255.1.1"]


def test_a_cloud_over_ipv6_and_rip_is_planned_and_named() -> None:
    text = (
        (EXAMPLES / "minimal.yaml")
        .read_text()
        .replace(
            "{blue: {overlay: [10.255.1.0/24]}}",
            "{blue: {overlay: [10.255.1.0/24], underlay: ipv6, routing: rip}, "
            "red: {overlay: [10.255.2.0/24], gre-key: 2}}",
        )
    )
    text = text.replace(
        "192.0.2.2/30], gateway: [192.0.2.1]", '192.0.2.2/30, "2001:db8::2/64"], gateway: [192.0.2.1, "2001:db8::1"]'
    )
    text = text.replace(
        "blue: {role: hub, address: [10.255.1.1]}",
        "blue: {role: hub, address: [10.255.1.1]}, red: {role: hub, address: [10.255.2.1]}",
    )
    network = load(text, "minimal")
    plan = compile_plan(network, "hq1")
    assert plan.not_rendered == ()
    assert [opening.ports for opening in plan.openings if opening.why == "RIP"] == [(520,)]
    assert compile_plan(network, "par1").clouds[0].hubs[0].endpoints == (ip_address("2001:db8::2"),)


def test_warnings_do_not_stop_a_file() -> None:
    text = (EXAMPLES / "minimal.yaml").read_text().replace("192.0.2.", "192.168.0.")
    network, warnings = load_with_warnings(text, "minimal.yaml")
    assert routers(network)
    assert [finding.warning for finding in warnings] == [True]
    with pytest.raises(Problems):
        load_with_warnings(text.replace("asn: 65001", "asn: 65000"), "minimal.yaml")
