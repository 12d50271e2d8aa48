import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dmvpn.errors import Fault, WrongInput
from dmvpn.linux import netstate
from dmvpn.linux.netstate_file import decode, encode

Run = Callable[..., str]
TAP = {"name": "acme-blue", "kind": "tap", "mac": "02:00:64:40:00:0b", "mtu": 1372, "neighbour_upcalls": True}
LAST = 4278198272


def document(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "network": "acme",
        "state": str(tmp_path / "run" / "network.state.json"),
        "devices": [TAP],
        "addresses": [
            {"device": "lo", "address": "100.64.0.11/32"},
            {"device": "acme-blue", "address": "10.255.1.11/32"},
            {"device": "acme-blue", "address": "fd00:255:1::11/128"},
        ],
        "routes": [
            {"prefix": "0.0.0.0/0", "kind": "unicast", "device": "acme-blue", "gateway": "10.255.1.1", "metric": 100,
             "table": 254, "protocol": 79},
            {"prefix": "10.255.1.1/32", "kind": "unicast", "device": "acme-blue", "scope": "link",
             "source": "10.255.1.11", "table": 254, "protocol": 79},
            {"prefix": "fd00:255:1::1/128", "kind": "unicast", "device": "acme-blue", "scope": "link",
             "source": "fd00:255:1::11", "table": 254, "protocol": 79},
            {"prefix": "100.64.0.0/16", "kind": "unreachable", "table": 254, "metric": LAST, "protocol": 79},
            {"prefix": "fd00::/16", "kind": "unreachable", "table": 254, "metric": LAST, "protocol": 79},
        ],
        "rules": [{"priority": 210, "table": 4201, "family": 4}, {"priority": 210, "table": 4201, "family": 6}],
        "sysctls": {"net.ipv4.ip_forward": "1", "net.ipv4.conf.acme-blue.send_redirects": "0"},
        **changes,
    }  # fmt: skip


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., Path]:
    """Writes network.json with changes to its top-level keys."""

    def write(**changes: Any) -> Path:
        path = tmp_path / "network.json"
        path.write_text(json.dumps(document(tmp_path, **changes)))
        return path

    return write


def kernel_state(ip: Run) -> str:
    """What we set; the carrier, which the kernel takes away in its own time, is left out."""
    text = "".join(
        ip(*arguments)
        for arguments in (("-d", "link"), ("addr",), ("route",), ("-6", "route"), ("rule",), ("-6", "rule"))
    )
    return re.sub(r"NO-CARRIER,|,LOWER_UP| state \w+| linkdown", "", text)


def test_the_file_survives_a_round_trip(tmp_path: Path) -> None:
    state = decode("f", document(tmp_path))
    assert decode("f", json.loads(encode(state))) == state


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        pytest.param({"version": 2}, "f: version: is not 1; another release wrote this file", id="another release"),
        pytest.param({"colour": "red"}, "f: colour: is not known", id="unknown key"),
        pytest.param({"state": "run/x"}, "f: state: 'run/x' is not an absolute path", id="relative path"),
        pytest.param({"devices": [{**TAP, "mtu": True}]}, "f: devices[0].mtu: must be a number", id="boolean number"),
        pytest.param({"devices": [{**TAP, "mtu": 9}]}, "f: devices[0].mtu: 9 is not in 68..65535", id="tiny MTU"),
        pytest.param(
            {"devices": [{**TAP, "kind": "tun"}]}, "f: devices[0].kind: 'tun' is not one of tap, gre", id="kind"
        ),
        pytest.param(
            {"devices": [{**TAP, "name": "../../etc"}]},
            "f: devices[0].name: '../../etc' is not a device name of 1 to 15 octets",
            id="a path as device name",
        ),
        pytest.param({"devices": [{"name": "a"}]}, "f: devices[0].kind: is missing", id="missing key"),
        pytest.param({"devices": ["a"]}, "f: devices[0]: must be an object", id="no object"),
        pytest.param(
            {"addresses": [{"device": "lo", "address": "10.0.0.256/8"}]},
            "f: addresses[0].address: '10.0.0.256/8' does not appear to be an IPv4 or IPv6 interface",
            id="address",
        ),
        pytest.param(
            {"routes": [{"prefix": "10.0.0.1/8", "kind": "unreachable", "table": 254, "protocol": 79}]},
            "f: routes[0].prefix: 10.0.0.1/8 has host bits set",
            id="host bits",
        ),
        pytest.param(
            {"routes": [{"prefix": "10.0.0.0/8", "kind": "unicast", "table": 254, "protocol": 79}]},
            "f: routes[0].device: is missing",
            id="route to nowhere",
        ),
        pytest.param(
            {"routes": [{"prefix": "::/0", "kind": "unicast", "device": "lo", "gateway": "10.0.0.1", "protocol": 79}]},
            "f: routes[0].gateway: 10.0.0.1 is not of the family of ::/0",
            id="gateway of another family",
        ),
        pytest.param(
            {"rules": [{"priority": 1, "table": 9, "family": 5}]}, "f: rules[0].family: is not 4 or 6", id="5"
        ),
        pytest.param(
            {"sysctls": {"kernel.panic": "1"}}, "f: sysctls.kernel.panic: is not a name under net.", id="not of net"
        ),
        pytest.param(
            {"sysctls": {"net.ipv4/../../kernel": "1"}},
            "f: sysctls.net.ipv4/../../kernel: is not a name under net.",
            id="a way out of net",
        ),
    ],
)
def test_a_wrong_file_says_where(tmp_path: Path, changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(WrongInput) as caught:
        decode("f", document(tmp_path, **changes))
    assert str(caught.value) == fault


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "[]", "nonsense"])
def test_what_is_not_json_is_wrong_input(tmp_path: Path, text: str) -> None:
    path = tmp_path / "network.json"
    path.write_text(text)
    with pytest.raises(WrongInput):
        netstate.load(path)


@pytest.mark.kernel
def test_apply_makes_everything_and_is_idempotent(netns: None, ip: Run, put: Callable[..., Path]) -> None:
    path = put()
    before = kernel_state(ip)
    assert netstate.apply(path) == ()
    after = kernel_state(ip)
    assert "tun type tap pi off vnet_hdr off persist on" in after
    assert "02:00:64:40:00:0b" in after
    assert "unreachable 100.64.0.0/16 proto 79 metric 4278198272" in after
    assert "10.255.1.1 dev acme-blue proto 79 scope link src 10.255.1.11" in after
    assert "fe80::" not in ip("addr", "show", "dev", "acme-blue")
    for family in ("ipv4", "ipv6"):
        settings = Path(f"/proc/sys/net/{family}/neigh/acme-blue")
        values = [(settings / f"{kind}_solicit").read_text().strip() for kind in ("app", "mcast", "ucast")]
        assert values == ["1", "0", "0"]
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "1"
    record = Path(json.loads(path.read_text())["state"]).read_text()
    assert netstate.apply(path) == ()
    assert kernel_state(ip) == after
    assert Path(json.loads(path.read_text())["state"]).read_text() == record
    netstate.remove(path)
    netstate.remove(path)
    assert kernel_state(ip) == before


@pytest.mark.kernel
def test_what_is_gone_from_the_file_goes(netns: None, ip: Run, put: Callable[..., Path]) -> None:
    netstate.apply(put())
    netstate.apply(
        put(
            devices=[{**TAP, "mtu": 1300, "mac": "02:00:64:40:00:0c"}],
            addresses=[{"device": "lo", "address": "100.64.0.12/32"}],
            routes=[{"prefix": "100.64.0.0/16", "kind": "blackhole", "table": 254, "metric": LAST, "protocol": 79}],
            rules=[],
        )
    )
    after = kernel_state(ip)
    assert "mtu 1300" in after
    assert "02:00:64:40:00:0c" in after
    assert "100.64.0.12/32" in after
    assert "blackhole 100.64.0.0/16" in after
    for gone in ("100.64.0.11", "10.255.1.11", "unreachable", "4201", "10.255.1.1 "):
        assert gone not in after


@pytest.mark.kernel
def test_what_was_there_before_stays(netns: None, ip: Run, put: Callable[..., Path]) -> None:
    ip("addr", "add", "100.64.0.11/32", "dev", "lo")
    ip("route", "add", "unreachable", "100.64.0.0/16", "metric", str(LAST), "protocol", "79")
    ip("rule", "add", "priority", "210", "lookup", "4201")
    path = put()
    netstate.apply(path)
    netstate.apply(path)
    netstate.remove(path)
    after = kernel_state(ip)
    assert "100.64.0.11/32" in after
    assert "unreachable 100.64.0.0/16" in after
    assert "lookup 4201" in after
    assert "acme-blue" not in after


@pytest.mark.kernel
def test_a_rule_for_more_than_a_default_route_comes_and_goes(netns: None, ip: Run, put: Callable[..., Path]) -> None:
    before = ip("rule"), ip("-6", "rule")
    rules = [{"priority": 399, "table": 254, "family": family, "specific": True} for family in (4, 6)]
    path = put(rules=rules)
    for _ in range(2):
        netstate.apply(path)
        for family in ("-4", "-6"):
            assert ip(family, "rule").count("399:\tfrom all lookup main suppress_prefixlength 0") == 1
    netstate.remove(path)
    assert (ip("rule"), ip("-6", "rule")) == before


@pytest.mark.kernel
def test_what_somebody_took_away_comes_back(netns: None, ip: Run, put: Callable[..., Path]) -> None:
    path = put()
    netstate.apply(path)
    after = kernel_state(ip).replace("2: acme-blue", "N: acme-blue")
    ip("link", "del", "acme-blue")
    netstate.apply(path)
    assert kernel_state(ip).replace("3: acme-blue", "N: acme-blue") == after


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("there", "changes", "fault"),
    [
        pytest.param(
            ("link", "add", "acme-blue", "type", "bridge"),
            {},
            "device acme-blue: exists already and is not ours; "
            "rename it, or choose another name for the network or cloud",
            id="a device of that name",
        ),
        pytest.param(
            ("link", "set", "lo", "up"),
            {"addresses": [{"device": "eth7", "address": "192.0.2.1/24"}]},
            "device eth7: there is no such device for address 192.0.2.1/24; see `ip link`",
            id="no device for an address",
        ),
        pytest.param(
            ("route", "add", "unreachable", "100.64.0.0/16", "metric", str(LAST), "protocol", "static"),
            {},
            "route 100.64.0.0/16 table 254: somebody else (protocol 4) has it already with metric 4278198272; "
            "remove it or change its metric",
            id="another's route",
        ),
    ],
)
def test_a_refusal_touches_nothing(
    netns: None, ip: Run, put: Callable[..., Path], there: tuple[str, ...], changes: dict[str, Any], fault: str
) -> None:
    ip(*there)
    before = kernel_state(ip)
    with pytest.raises(Fault) as caught:
        netstate.apply(put(**changes))
    assert str(caught.value) == fault
    assert kernel_state(ip) == before


@pytest.mark.kernel
def test_death_halfway_leaves_nothing_without_an_owner(
    netns: None, ip: Run, put: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    path = put()
    before = kernel_state(ip)
    with monkeypatch.context() as patch:
        patch.setattr(netstate.Kernel, "add_rule", die)
        with pytest.raises(KeyboardInterrupt):
            netstate.apply(path)
    assert "100.64.0.11" in kernel_state(ip)
    netstate.remove(path)
    assert kernel_state(ip) == before


@pytest.mark.kernel
def test_the_default_route_of_another_network_is_not_replaced(netns: None, ip: Run, put: Callable[..., Path]) -> None:
    """Two networks know theirs by one protocol: only the records say whose it is."""
    path = put(routes=[], devices=[], addresses=[], rules=[])
    ip("link", "set", "lo", "up")
    default = {"prefix": "0.0.0.0/0", "kind": "unreachable", "table": 254, "metric": 100, "protocol": 79}
    other = document(path.parent, network="one", state=str(path.parent / "one" / "network.state.json"))
    other |= {"routes": [default], "devices": [], "addresses": [], "rules": []}
    path.with_name("one.json").write_text(json.dumps(other))
    netstate.apply(path.with_name("one.json"))
    put(
        state=str(path.parent / "acme" / "network.state.json"),
        routes=[{**default, "kind": "unicast", "device": "lo", "scope": "link"}],
        devices=[],
        addresses=[],
        rules=[],
    )
    before = kernel_state(ip)
    with pytest.raises(Fault) as caught:
        netstate.apply(path)
    assert str(caught.value) == (
        "route 0.0.0.0/0 table 254: another network of this machine has it already with metric 100; "
        "write the same in the files of both"
    )
    assert kernel_state(ip) == before


@pytest.mark.kernel
def test_as_a_program_a_fault_is_one_line(netns: None, put: Callable[..., Path]) -> None:
    path = put(addresses=[{"device": "eth7", "address": "192.0.2.1/24"}])
    done = subprocess.run(
        (sys.executable, "-m", "dmvpn.linux.netstate", "apply", str(path)), capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 1
    assert done.stderr == "netstate: device eth7: there is no such device for address 192.0.2.1/24; see `ip link`\n"


@pytest.mark.kernel
def test_what_two_networks_have_in_common_goes_with_the_last_of_them(tmp_path: Path, netns: None, ip: Run) -> None:
    ip("link", "add", "eth0", "type", "veth", "peer", "name", "isp")
    paths = {}
    for number, network in enumerate(("one", "two")):
        uplink = {"prefix": "0.0.0.0/0", "kind": "unicast", "device": "eth0", "gateway": "192.0.2.1", "metric": 100,
                  "table": 254, "protocol": 79}  # fmt: skip
        paths[network] = tmp_path / f"{network}.json"
        text = document(
            tmp_path,
            network=network,
            state=str(tmp_path / network / "network.state.json"),
            devices=[],
            addresses=[
                {"device": "eth0", "address": "192.0.2.2/30"},
                {"device": "lo", "address": f"100.6{number}.0.1/32"},
            ],
            routes=[uplink],
            rules=[],
        )
        paths[network].write_text(json.dumps(text))
        netstate.apply(paths[network])
    both = kernel_state(ip)
    netstate.apply(paths["one"])
    assert kernel_state(ip) == both
    netstate.remove(paths["one"])
    shown = kernel_state(ip)
    assert "192.0.2.2/30" in shown
    assert "via 192.0.2.1" in shown
    assert "100.61.0.1" in shown
    assert "100.60.0.1" not in shown
    netstate.remove(paths["two"])
    shown = kernel_state(ip)
    assert "192.0.2.2/30" not in shown
    assert "via 192.0.2.1" not in shown
