"""Our own programs take what was rendered for them: the shape of a JSON file is a promise between two rooms."""

import json
from pathlib import Path

import pytest
import render_plans as plans
from render_trees import example_plan, stage

from dmvpn.daemon import settings as daemon_settings
from dmvpn.linux import netstate_file
from dmvpn.network.plan import Plan
from dmvpn.plane import settings as plane_settings

PLANS = [
    pytest.param(plans.hub(), id="hub"),
    pytest.param(plans.spoke(), id="spoke"),
    pytest.param(plans.dual_stack_hub(), id="dual-stack hub"),
]


@pytest.mark.parametrize("plan", PLANS)
def test_dmvpnd_takes_its_file(plan: Plan, tmp_path: Path) -> None:
    stage(plan, tmp_path)
    read = daemon_settings.load(tmp_path / "daemon.json")
    assert (read.router, read.transport, read.serves) == (plan.router, plan.transport, plan.serves)
    (cloud,), (planned,) = read.clouds, plan.clouds
    assert (cloud.addresses, cloud.role) == (planned.addresses, planned.role.value)
    assert cloud.nhrp.authentication == planned.nhrp.authentication
    assert [(hub.router, hub.nbma) for hub in cloud.hubs] == [(hub.router, hub.nbma) for hub in planned.hubs]


@pytest.mark.parametrize("plan", PLANS)
def test_netstate_takes_its_file(plan: Plan, tmp_path: Path) -> None:
    stage(plan, tmp_path)
    read = netstate_file.load(tmp_path / "network.json")
    assert [device.name for device in read.devices] == ["acme-blue"]
    assert read.policies == ()


def test_netstate_takes_the_kernel_planes_file(tmp_path: Path) -> None:
    stage(example_plan("kernel", "hq1"), tmp_path)
    read = netstate_file.load(tmp_path / "network.json")
    assert [(device.name, device.kind, device.key) for device in read.devices] == [
        ("acme-blue", "gre", 1),
        ("acme-mpls", "gre", 2),
    ]
    # The cloud in clear has none of its own.
    assert [policy.gre_key for policy in read.policies if policy.gre_key is not None] == [1, 1]
    assert netstate_file.decode("f", json.loads(netstate_file.encode(read))) == read


def test_dmvpnd_takes_the_kernel_planes_file(tmp_path: Path) -> None:
    plan = example_plan("kernel", "hq1")
    stage(plan, tmp_path)
    read = daemon_settings.load(tmp_path / "daemon.json")
    assert [cloud.plane for cloud in read.clouds] == ["kernel", "kernel"]


@pytest.mark.parametrize("plan", PLANS)
def test_dmvpn_gre_takes_its_file(plan: Plan, tmp_path: Path) -> None:
    stage(plan, tmp_path)
    read = plane_settings.read(tmp_path / "gre.json")
    assert read.local == plan.transport
