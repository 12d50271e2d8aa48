"""dhcpcd, pppd, and files of links for others: what they are told, and who may read it."""

import json
import subprocess
from pathlib import Path

import pytest

from dmvpn.errors import Fault
from dmvpn.network.compile import compile_plan
from dmvpn.network.loading import load
from dmvpn.network.plan import Plan
from dmvpn.render import dhcpcd, interfaces, links_ifupdown, links_networkd, pppd
from dmvpn.render.layout import Layout
from dmvpn.render.systemd import Programs, unit_files

ROOT = Path(__file__).parents[2]
MINIMAL = (ROOT / "examples/minimal.yaml").read_text()
STATIC = "isp1: {port: eth0, address: [198.51.100.2/30], gateway: [198.51.100.1]}"
IFQUERY = ROOT / ".openrc/usr/sbin/ifquery"
PASSWORD = b'a "strange" \\ one'


def plan(uplinks: str, password: bytes = PASSWORD) -> Plan:
    return compile_plan(
        load(MINIMAL.replace(STATIC, uplinks), "network.yaml"), "par1", secrets={"secrets/isp": password}
    )


LAYOUT = Layout("acme")
SESSION = "isp1: {port: eth0, pppoe: {user: anna@isp, password: {file: secrets/isp}}}"


@pytest.mark.parametrize(
    ("uplink", "there", "absent"),
    [
        pytest.param("isp1: {port: eth0, dhcp: true}", ("ipv4only", "metric 100"), ("ipv6rs", "ipv6only"), id="DHCP"),
        pytest.param(
            "isp1: {port: eth0, dhcp: true, autoconf: true}", ("ipv6rs",), ("ipv4only", "ipv6only"), id="both"
        ),
        pytest.param("isp1: {port: eth0, autoconf: true}", ("ipv6rs", "ipv6only"), ("ipv4only",), id="IPv6 alone"),
    ],
)
def test_the_client_is_told_which_families(uplink: str, there: tuple[str, ...], absent: tuple[str, ...]) -> None:
    (file,) = dhcpcd.render(plan(uplink), LAYOUT).files
    lines = file.text.splitlines()
    assert set(there) <= set(lines)
    assert not set(absent) & set(lines)
    assert {"persistent", "script /bin/true"} <= set(lines)  # no lease lost by a restart, no resolv.conf written


BESIDE = 'isp1: {port: eth0, address: [198.51.100.2/32, "2001:db8::2/64"], gateway: [192.0.2.1, "fe80::1"]}'


def test_an_isp_s_router_beside_a_single_address_is_said_to_be_on_the_link() -> None:
    made = plan(BESIDE)
    (network,) = interfaces.render(made, LAYOUT).files
    routes = [(row["prefix"], row.get("gateway")) for row in json.loads(network.text)["routes"] if row.get("device")]
    assert [row for row in routes if row[0] in ("192.0.2.1/32", "0.0.0.0/0", "::/0")] == [
        ("192.0.2.1/32", None),
        ("0.0.0.0/0", "192.0.2.1"),
        ("::/0", "fe80::1"),
    ]
    networkd = "".join(file.text for file in links_networkd.files(made))
    assert networkd.count("GatewayOnLink=yes") == 1
    assert "default via 192.0.2.1 dev eth0 metric 100 onlink" in links_ifupdown.files(made)[0].text


def test_a_static_uplink_needs_no_client() -> None:
    assert dhcpcd.render(plan(STATIC), LAYOUT).units == pppd.render(plan(STATIC), LAYOUT).units == ()


def test_nobody_else_reads_the_password() -> None:
    rendered = pppd.render(plan(SESSION), LAYOUT)
    with_it = [file for file in rendered.files if "strange" in file.text]
    assert [(str(file.path), file.mode) for file in with_it] == [("ppp/isp1.options", 0o600)]
    assert 'password "a \\"strange\\" \\\\ one"' in with_it[0].text.splitlines()
    assert "strange" not in str(rendered.units) + repr(plan(SESSION).not_rendered)


@pytest.mark.parametrize("password", [b"", b"two\nlines", "käse".encode(), b"x" * 256])
def test_a_password_that_pppd_would_not_take_is_refused(password: bytes) -> None:
    with pytest.raises(Fault, match="password is not 1 to 255 characters of ASCII"):
        plan(SESSION, password)


def test_the_sandbox_lets_the_client_remember_its_lease() -> None:
    rendered = dhcpcd.render(plan("isp1: {port: eth0, dhcp: true}"), LAYOUT)
    text = unit_files("acme", rendered.units, Programs(lambda name, _package: f"/usr/sbin/{name}"))
    unit = text["dmvpn-acme-dhcp-isp1.service"].splitlines()
    assert "StateDirectory=dmvpn/acme/dhcp-isp1" in unit
    assert "BindPaths=/var/lib/dmvpn/acme/dhcp-isp1:/var/lib/dhcpcd" in unit
    assert "BindPaths=/run/dmvpn/acme/dhcp-isp1:/run" in unit


WIKI = load((ROOT / "examples/wiki.yaml").read_text(), "wiki.yaml")


def wiki() -> Plan:
    return compile_plan(WIKI, "vpnc", secrets={"secrets/isp2": b"x"})


def test_networkd_is_told_of_every_link() -> None:
    files = {file.path.name: file.text for file in links_networkd.files(wiki())}
    assert "Mode=active-backup" in files["10-dmvpn-dmvpn-bond0.netdev"]
    assert "PrimarySlave=yes" in files["10-dmvpn-dmvpn-eth0.network"]
    assert files["10-dmvpn-dmvpn-bond0.network"].count("VLAN=") == 7
    assert "Metric=100" in files["10-dmvpn-dmvpn-bond0.256.network"]
    assert "Unmanaged" not in str(files)
    hands_off = {file.path.name: file.text for file in links_networkd.hands_off(wiki())}
    assert "bond0.96" in hands_off["05-dmvpn-dmvpn.network"]
    assert "Unmanaged=yes" in hands_off["05-dmvpn-dmvpn.network"]
    assert "ManageForeignRoutes=no" in hands_off["50-dmvpn-dmvpn.conf"]


def test_ifupdown_ng_reads_its_file(tmp_path: Path) -> None:
    (file,) = links_ifupdown.files(wiki())
    path = tmp_path / "interfaces"
    path.write_text(file.text)
    if not IFQUERY.exists():
        pytest.skip("needs .openrc/, which scripts/setup test unpacks where there is an apt-get")
    argv = (str(IFQUERY), "--interfaces", str(path), "--list", "--auto")
    listed = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=20).stdout.split()
    assert listed == ["lo", "bond0", *(f"bond0.{vlan}" for vlan in (256, 257, 3, 8, 64, 80, 96))]
    argv = (str(IFQUERY), "--interfaces", str(path), "bond0.256")
    shown = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=20).stdout
    assert {"vlan-raw-device bond0", "vlan-id 256", "gateway 198.51.100.1", "metric 100"} <= set(
        line.strip() for line in shown.splitlines()
    )


def test_ifupdown_ng_is_told_the_bonds_first_member_and_of_advertisements() -> None:
    (file,) = links_ifupdown.files(wiki())
    assert "\tbond-primary eth0\n" in file.text
    (file,) = links_ifupdown.files(plan("isp1: {port: eth0, autoconf: true}"))
    assert "\tup echo 2 >/proc/sys/net/ipv6/conf/eth0/accept_ra\n" in file.text
    assert "use dhcp" not in file.text
    assert "accept_ra" not in links_ifupdown.files(plan(STATIC))[0].text


@pytest.mark.parametrize(
    ("policy", "made"),
    [
        ("", False),
        ("policy: {}", False),
        ("policy: {route-track: [{zone: internet, mark: 1}]}", True),
        ("policy: {marks: [{in: lan, mark: 2}]}", True),
    ],
)
def test_mains_own_ways_stand_before_any_mark_with_one_uplink_too(policy: str, made: bool) -> None:  # noqa: FBT001
    marked = compile_plan(load(f"{MINIMAL}{policy}\n", "network.yaml"), "par1")
    (file,) = interfaces.render(marked, LAYOUT).files
    first = {"priority": 399, "table": 254, "family": 4, "specific": True}
    assert (first in json.loads(file.text)["rules"]) is made


def test_hosts_with_ipv6_for_the_internet_alone_are_forwarded() -> None:
    lan = "networks: {lan: {port: eth1, prefix: 10.1.1.0/24}}"
    guests = lan.replace("}}", '}, guests: {port: eth2, prefix: "2001:db8:1::/64", zone: internet-only}}')
    text = MINIMAL.replace(lan, guests).replace("prefixes: [10.0.0.0/8]", 'prefixes: [10.0.0.0/8, "2001:db8:1::/64"]')
    with_it = compile_plan(load(text, "network.yaml"), "par1", secrets={})
    for made, there in ((plan(STATIC), False), (with_it, True)):
        (network,) = interfaces.render(made, LAYOUT).files
        assert ("net.ipv6.conf.all.forwarding" in json.loads(network.text)["sysctls"]) is there
