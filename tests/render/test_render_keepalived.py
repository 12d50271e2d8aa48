"""keepalived's file: one instance for each network and family, and its own checker says that it reads it."""

import re
from dataclasses import replace
from ipaddress import ip_interface
from pathlib import Path

import pytest
from render_plans import spoke

from dmvpn.linux import process
from dmvpn.network.plan import Gateway, Plan, Vrrp
from dmvpn.render import keepalived
from dmvpn.render.layout import Layout


def shared(**changed: object) -> Plan:
    gateways = tuple(Gateway("lan", "eth1", ip_interface(text)) for text in ("10.1.11.1/24", "fd00:11::1/64"))
    vrrp = Vrrp(group=7, priority=190, lost=100, advertise_ms=300, gateways=gateways)
    return replace(spoke(), vrrp=replace(vrrp, **changed))  # type: ignore[arg-type]


def text(plan: Plan) -> str:
    (file,) = keepalived.render(plan, Layout("acme")).files
    return file.text


def test_a_router_without_partner_gets_nothing() -> None:
    assert keepalived.render(spoke(), Layout("acme")).files == ()
    assert keepalived.render(spoke(), Layout("acme")).units == ()


def test_each_family_has_its_instance_and_ipv6_begins_with_the_groups_link_local_address() -> None:
    found = re.findall(r"vrrp_instance (\S+) \{(.*?)\n\}", text(shared()), re.DOTALL)
    assert [name for name, _ in found] == ["lan-4", "lan-6"]
    four, six = (body.split() for _, body in found)
    assert "native_ipv6" in six
    assert "native_ipv6" not in four
    assert [word for word in six if "/" in word] == ["fe80::200:5eff:fe00:207/64", "fd00:11::1/64"]
    assert [four[four.index(key) + 1] for key in ("virtual_router_id", "priority", "advert_int")] == ["7", "190", "0.3"]


def test_it_starts_with_what_a_router_without_tunnels_offers() -> None:
    assert "init_file -100 overwrite" in text(shared())
    (_, watcher) = keepalived.render(shared(), Layout("acme")).units
    assert watcher.argv[-2:] == ("/run/dmvpn/acme/gateway.track", "-100")


@pytest.mark.parametrize("plan", [shared(), shared(priority=101, advertise_ms=40000)], ids=["usual", "edges"])
def test_keepalived_reads_it(plan: Plan, tmp_path: Path) -> None:
    rendered = keepalived.render(plan, Layout("acme"))
    (tmp_path / keepalived.FILE).write_text(rendered.files[0].text)
    argv = tuple(word.replace("{tree}", str(tmp_path)) for word in rendered.checks[0].argv)
    process.run(argv, timeout_s=20, package="keepalived")


def test_its_checker_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    rendered = keepalived.render(shared(), Layout("acme"))
    (tmp_path / keepalived.FILE).write_text(rendered.files[0].text.replace("priority", "prioritt"))
    argv = tuple(word.replace("{tree}", str(tmp_path)) for word in rendered.checks[0].argv)
    assert process.run(argv, timeout_s=20, package="keepalived", accept=range(1, 256)).status != 0
