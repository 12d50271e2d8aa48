"""Each engine's own checker takes what was rendered, and refuses what was spoilt."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import render_plans as plans
from render_trees import REPOSITORY, example_plan, example_routers, stage

from dmvpn.network.compile import compile_plan
from dmvpn.network.loading import load
from dmvpn.network.plan import Plan
from dmvpn.render.engines import render_all
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


def _leased(how: str = "dhcp: true") -> Plan:
    """A spoke with an uplink of each kind that an ISP leases, on a machine whose own service makes room."""
    text = (REPOSITORY / "examples/minimal.yaml").read_text()
    static = "isp1: {port: eth0, address: [198.51.100.2/30], gateway: [198.51.100.1]}"
    session = "isp2: {port: eth2, pppoe: {user: anna@isp, password: {file: secrets/isp}}}"
    text = text.replace(static, f"isp1: {{port: eth0, {how}}}, {session}")
    tunnels = "tunnels: {blue: {address: [10.255.1.11]}}"
    text = text.replace(tunnels, f"{tunnels}\n        adopt: [strongswan-starter]")
    return compile_plan(load(text, "leased.yaml"), "par1", secrets={"secrets/isp": b'a "strange" \\ one'})


@pytest.mark.usefixtures("need_root", "need_clients")
@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        pytest.param("dhcp/isp1.conf", "noarp", "noharp", "unknown option: noharp", id="dhcpcd, option"),
        pytest.param("dhcp/isp1.conf", "metric 100", "metric low", "failed to convert metric", id="dhcpcd, number"),
        pytest.param("ppp/isp2.options", "nopcomp", "nopcomb", "unrecognized option 'nopcomb'", id="pppd, option"),
        pytest.param("ppp/isp2.options", "plugin pppoe", "plugin pppoa", "cannot open shared", id="pppd, plugin"),
        pytest.param("ppp/isp2.options", "mtu 1492", "mtu 149", "", id="pppd, what it may be"),
        pytest.param("ppp/isp2.options", "mtu 1492", "mtu 1492000", "must be between", id="pppd, bound"),
        pytest.param("ppp/isp2.options", "nic-eth2", "eth2", "names no device", id="pppd, device"),
        pytest.param("network.json", '"unreachable"', '"unreached"', "unreached", id="netstate"),
        pytest.param("daemon.json", '"version": 1', '"version": 0', "version 0", id="dmvpnd"),
        pytest.param("gre.json", '"ttl": ', '"ttl": 9', "ttl", id="dmvpn-gre"),
        pytest.param("adoption.json", '"record"', '"recorder"', "record", id="adoption"),
    ],
)
def test_clients_and_our_own_refuse_what_was_spoilt(file: str, old: str, new: str, said: str, tmp_path: Path) -> None:
    (check,) = (check for check in stage(_leased(), tmp_path) if check.argv[-1] == f"{{tree}}/{file}")
    taken = _run(check, tmp_path)
    assert (taken.returncode, taken.stderr) == (0, "")
    path = tmp_path / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    done = _run(check, tmp_path)
    assert (done.returncode == 0) == (said == ""), done.stderr
    assert said in done.stderr
    assert "strange" not in done.stderr  # the password is in the file, and in nobody's log
    assert done.stderr.count("\n") == (1 if said else 0)


@pytest.mark.usefixtures("need_root", "need_clients")
@pytest.mark.parametrize("how", ["dhcp: true", "dhcp: true, autoconf: true", "autoconf: true"])
def test_dhcpcd_takes_what_it_is_told_of_each_family(how: str, tmp_path: Path) -> None:
    (check,) = (check for check in stage(_leased(how), tmp_path) if check.argv[-1] == "{tree}/dhcp/isp1.conf")
    done = _run(check, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def mounts() -> list[str]:
    """What is mounted where the check mounts; what tests beside it mount is elsewhere. proc_pid_mountinfo(5)."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if line.split()[4] in ("/", "/run", "/dev", "/dev/null")]


@pytest.mark.usefixtures("need_root", "need_clients")
def test_looking_at_a_session_leaves_nothing_behind(tmp_path: Path) -> None:
    (check,) = (check for check in stage(_leased(), tmp_path) if check.argv[-1] == "{tree}/ppp/isp2.options")
    made = re.compile(r"dmvpn|options|^dev$")
    before = {path for place in ("/tmp", "/run", "/dev") for path in Path(place).iterdir()}
    mounted = mounts()
    null = Path("/dev/null").stat()
    assert _run(check, tmp_path).returncode == 0
    left = {path for place in ("/tmp", "/run", "/dev") for path in Path(place).iterdir()} - before
    assert {path for path in left if made.search(path.name) or path.parent == Path("/dev")} == set()
    assert mounts() == mounted
    assert (Path("/dev/null").stat().st_mode, Path("/dev/null").stat().st_rdev) == (null.st_mode, null.st_rdev)


@pytest.mark.parametrize("router", ["hub1", "vpnc"])
def test_every_file_of_an_example_has_somebody_who_looks_at_it_first(router: str) -> None:
    """Or what reads it: a checker of a whole tree, or a script of ours without a word of the file in it."""
    for part in render_all(example_plan("wiki", router)):
        looked_at = " ".join(word for check in part.checks for word in check.argv)
        unseen = [str(file.path) for file in part.files if f"{{tree}}/{file.path}" not in looked_at]
        assert unseen == [] or part.engine == "strongswan" or unseen == ["ppp/ip-up"], part.engine


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
