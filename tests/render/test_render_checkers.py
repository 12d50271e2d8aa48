"""Each engine's own checker takes what was rendered, and refuses what was spoilt."""

import subprocess
import sys
from pathlib import Path

import pytest
import render_plans as plans
from render_trees import example_plan, example_routers, stage

from dmvpn.network.plan import Plan
from dmvpn.render.result import Check

pytestmark = pytest.mark.kernel

PLANS = [
    pytest.param(example_plan("demo", "hq1"), id="demo hub"),
    pytest.param(example_plan("demo", "par1"), id="demo spoke"),
    pytest.param(plans.dual_stack_hub(), id="dual-stack hub"),
    *(pytest.param(example_plan("kernel", router), id=f"kernel {router}") for router in example_routers("kernel")),
    *(pytest.param(example_plan("wiki", router), id=f"wiki {router}") for router in example_routers("wiki")),
]


def _run(check: Check, tree: Path) -> subprocess.CompletedProcess[str]:
    argv = [argument.replace("{tree}", str(tree)) for argument in check.argv]
    argv[0] = sys.executable if argv[0] == "python3" else argv[0]
    return subprocess.run(argv, check=False, capture_output=True, text=True, timeout=check.timeout_s)


def _with_pki(tree: Path, check: Check, pki: Path) -> Check:
    """The keys stand in /etc on a router; here they stand beside the test."""
    swanctl = tree / "swanctl.conf"
    swanctl.write_text(swanctl.read_text().replace("/etc/dmvpn/acme/pki", str(pki)))
    return Check((*check.argv[:-1], str(pki / "swanctl")), check.package, check.timeout_s)


@pytest.mark.usefixtures("need_root", "need_frr")
@pytest.mark.parametrize("plan", PLANS)
def test_nft_and_vtysh_take_the_files(plan: Plan, tmp_path: Path) -> None:
    for check in stage(plan, tmp_path):
        if "ipsec_check" not in " ".join(check.argv):
            done = _run(check, tmp_path)
            assert done.returncode == 0, f"{check.argv}: {done.stderr}{done.stdout}"


@pytest.mark.usefixtures("need_root", "need_frr")
@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        pytest.param("nftables.nft", "policy accept", "policy perhaps", id="nft"),
        pytest.param("bgpd.conf", "router bgp", "rooter bgp", id="bgpd"),
        pytest.param("zebra.conf", "hostname", "hostnome", id="zebra"),
    ],
)
def test_nft_and_vtysh_refuse_what_was_spoilt(file: str, old: str, new: str, tmp_path: Path) -> None:
    checks = [check for check in stage(plans.hub(), tmp_path) if check.argv[-1] == f"{{tree}}/{file}"]
    path = tmp_path / file
    path.write_text(path.read_text().replace(old, new))
    assert [_run(check, tmp_path).returncode != 0 for check in checks] == [True]


@pytest.mark.usefixtures("need_root", "need_charon")
@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        pytest.param("swanctl.conf", "", "", "", id="as rendered"),
        pytest.param("swanctl.conf", "esp_proposals", "espproposals", "unknown option: espproposals", id="option"),
        pytest.param("swanctl.conf", " = aes256", " = aes257", "invalid value for: proposals", id="proposal"),
        pytest.param("swanctl.conf", "ca.pem", "cb.pem", "No such file", id="certificate"),
        pytest.param("strongswan.conf", "addrblock!", "addrblokk!", "'addrblokk': failed to load", id="plugin"),
        pytest.param("strongswan.conf", "  }\n", "", "syntax error", id="brace"),
    ],
)
def test_charon_takes_the_files_and_refuses_what_was_spoilt(
    file: str, old: str, new: str, said: str, tmp_path: Path, demo_pki: Path
) -> None:
    plan = example_plan("demo", "hq1")
    (check,) = (check for check in stage(plan, tmp_path) if "dmvpn.linux.ipsec_check" in check.argv)
    check = _with_pki(tmp_path, check, demo_pki)
    path = tmp_path / file
    path.write_text(path.read_text().replace(old, new, 1) if old else path.read_text())
    done = _run(check, tmp_path)
    assert (done.returncode == 0) == (said == ""), done.stderr
    assert said in done.stderr
    assert done.stderr.count("\n") == (1 if said else 0)


def test_charon_check_without_keys_says_what_to_do(tmp_path: Path) -> None:
    (check,) = (check for check in stage(plans.hub(), tmp_path) if "dmvpn.linux.ipsec_check" in check.argv)
    done = _run(Check((*check.argv[:-1], str(tmp_path / "nowhere")), check.package), tmp_path)
    assert done.returncode == 1
    assert done.stderr == (
        f"{tmp_path}/nowhere: does not exist; run `dmvpn pki install` first: charon needs its certificate and key\n"
    )
