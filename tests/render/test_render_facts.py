"""Facts that another room relies on, and that a golden file would let slip away in a large diff."""

import json
from typing import Any

import pytest
import render_plans as plans

from dmvpn.network.plan import Plan, Role
from dmvpn.render.engines import ENGINES, render_all
from dmvpn.render.interfaces import tap_mac


def _files(plan: Plan) -> dict[str, str]:
    return {str(file.path): file.text for part in render_all(plan) for file in part.files}


def _json(plan: Plan, name: str) -> dict[str, Any]:
    document = json.loads(_files(plan)[name])
    assert isinstance(document, dict)
    return document


ALL = [pytest.param(plans.hub(), id="hub"), pytest.param(plans.spoke(), id="spoke")]
ALL += [pytest.param(plans.dual_stack_hub(), id="dual-stack hub")]


@pytest.mark.parametrize("plan", ALL)
def test_guards_stand_before_anything_can_send(plan: Plan) -> None:
    names = [unit.name for part in render_all(plan) for unit in part.units]
    learned = ("learned",) if plan.clouds[0].role is Role.HUB else ()
    assert [name.removeprefix("dmvpn-acme-") for name in names] == [
        *("nftables", "network", "charon", "frr-run", "zebra", "bgpd", *learned, "gre", "dmvpnd")
    ]


@pytest.mark.parametrize("plan", ALL)
def test_every_file_is_read_by_a_unit(plan: Plan) -> None:
    parts = render_all(plan)
    assert {file.path for part in parts for file in part.files} == {
        path for part in parts for unit in part.units for path in unit.reads
    }
    assert [part.engine for part in parts] == [name for name, _ in ENGINES]


@pytest.mark.parametrize("plan", ALL)
def test_internal_destinations_never_follow_the_default_route(plan: Plan) -> None:
    routes = _json(plan, "network.json")["routes"]
    dead_ends = {route["prefix"]: route["metric"] for route in routes if route["kind"] == "unreachable"}
    assert set(dead_ends) == {str(plan.transport_range), *(str(prefix) for prefix in plan.prefixes)}
    assert {metric >> 24 for metric in dead_ends.values()} == {255}  # the distance zebra never takes


@pytest.mark.parametrize("plan", ALL)
def test_only_root_reads_the_nhrp_secret(plan: Plan) -> None:
    secret = b"secret".hex()
    for part in render_all(plan):
        for file in part.files:
            assert (secret in file.text) == (file.path.name == "daemon.json")
            assert file.mode == (0o600 if file.path.name == "daemon.json" else 0o644)


def test_a_spoke_has_host_addresses_and_link_routes_to_its_hubs() -> None:
    document = _json(plans.spoke(), "network.json")
    assert {"device": "acme-blue", "address": "10.255.1.11/32"} in document["addresses"]
    assert [route for route in document["routes"] if route.get("scope") == "link"] == [
        {
            "prefix": "10.255.1.1/32",
            "kind": "unicast",
            "device": "acme-blue",
            "scope": "link",
            "source": "10.255.1.11",
            "table": 254,
            "protocol": 79,
        }
    ]


def test_a_hub_has_the_overlay_on_link() -> None:
    addresses = _json(plans.dual_stack_hub(), "network.json")["addresses"]
    assert [entry["address"] for entry in addresses if entry["device"] == "acme-blue"] == [
        "10.255.1.1/24",
        "fd00:255:1::1/64",
        "fe80::5efe:6440:1/64",
    ]


def test_the_device_spells_the_transport_address() -> None:
    assert tap_mac(plans.spoke().transport) == "02:00:64:40:00:0b"


def test_only_a_hub_that_indicates_logs_hairpins() -> None:
    assert "log group 10 snaplen 128" in _files(plans.hub())["nftables.nft"]
    assert "log group" not in _files(plans.spoke())["nftables.nft"]


@pytest.mark.parametrize("plan", ALL)
def test_nobody_elses_rules_are_flushed(plan: Plan) -> None:
    assert "flush" not in _files(plan)["nftables.nft"]


@pytest.mark.parametrize(
    ("plan", "listens"), [pytest.param(plans.hub(), True, id="hub"), pytest.param(plans.spoke(), False, id="spoke")]
)
def test_only_a_hub_listens_for_bgp(*, plan: Plan, listens: bool) -> None:
    bgpd = next(unit for part in render_all(plan) for unit in part.units if unit.name.endswith("bgpd"))
    assert (bgpd.argv[-2:] != ("-p", "0")) == listens
