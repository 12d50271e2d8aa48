"""The command's statuses, its faults in one line, and how little it takes to say --help."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from dmvpn_command import ENVIRONMENT, LIMIT_S, ROOT, dmvpn

from dmvpn.linux import frr_release

MINIMAL = (ROOT / "examples" / "minimal.yaml").read_text()


@pytest.fixture
def network(tmp_path: Path) -> Path:
    path = tmp_path / "network.yaml"
    path.write_text(MINIMAL)
    return path


# ---------------------------------------------------------------- check


def test_a_good_file_is_0_and_says_how_much_it_is(network: Path) -> None:
    done = dmvpn("check", str(network))
    assert (done.status, done.err) == (0, "")
    assert done.out == f"{network}: good: 1 cloud, 3 sites, 3 routers\n"


def test_the_file_of_this_directory_is_meant_without_a_name(network: Path) -> None:
    assert dmvpn("check", cwd=network.parent).out.startswith("network.yaml: good")


def test_a_wrong_file_is_2_with_every_problem_in_a_line_of_its_own(network: Path) -> None:
    network.write_text(MINIMAL.replace("role: hub", "rule: hub").replace("10.1.2.0/24", "10.1.1.0/24"))
    done = dmvpn("check", str(network))
    assert done.status == 2
    assert [line.partition(": ")[0] for line in done.out.splitlines()] == [f"{network}:13:26", f"{network}:23:42"]


def test_a_file_with_warnings_alone_is_3(network: Path) -> None:
    # A hub that only a private network reaches is allowed, and hardly meant.
    network.write_text(MINIMAL.replace("192.0.2.", "192.168.2."))
    done = dmvpn("check", str(network))
    assert done.status == 3, done
    assert "warning: " in done.out
    assert ": good: 1 cloud" in done.out


@pytest.mark.parametrize(
    ("text", "status", "findings"),
    [pytest.param(MINIMAL, 0, 0, id="good"), pytest.param(MINIMAL.replace("asn: 65001", "asn: no"), 2, 1, id="wrong")],
)
def test_the_same_as_json(network: Path, text: str, status: int, findings: int) -> None:
    network.write_text(text)
    done = dmvpn("check", "--json", str(network))
    assert done.status == status
    assert len(json.loads(done.out)) == findings


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(b"", id="empty"),
        pytest.param(
            b"\xff\xfe\x00",
            id="no text",
        ),
        pytest.param(b"a: [1", id="no YAML"),
        pytest.param(b"a: 1\na: 2\n", id="a key twice"),
        pytest.param(b"- 1\n", id="a list"),
        pytest.param(b"!!python/object/apply:os.system [true]\n", id="a tag"),
        pytest.param(b"x: " + b"[" * 5000, id="deep"),
        pytest.param(b"a: &a [*a]\n", id="an alias of itself"),
        pytest.param(b"\0", id="a zero octet"),
    ],
)
def test_what_is_no_network_is_2_and_no_traceback(network: Path, octets: bytes) -> None:
    network.write_bytes(octets)
    done = dmvpn("check", str(network))
    assert done.status == 2, done
    assert "Traceback" not in done.err + done.out
    assert str(network) in done.err + done.out


# ---------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("argv", "status", "says"),
    [
        pytest.param(("check", "absent.yaml"), 1, "dmvpn: absent.yaml: ", id="no such file"),
        pytest.param(("check", "."), 1, "dmvpn: .: ", id="a directory"),
        pytest.param(
            ("render", "nobody"), 2, "dmvpn: acme: no router is called nobody; its routers are ", id="no such router"
        ),
        pytest.param(("pki", "issue"), 1, "dmvpn: pki/ca.pem: missing; make", id="no authority"),
        pytest.param(("status", "--network", "absent"), 1, "dmvpn: absent: no such network", id="no such network"),
        pytest.param(("lab", "run", "absent.yaml"), 2, "absent.yaml", id="no such scenario"),
        pytest.param(("nhrp", "decode", "xyz"), 2, "dmvpn: xyz: no such file, and not hex digits", id="no packet"),
    ],
)
def test_a_fault_is_one_line_on_standard_error(network: Path, argv: tuple[str, ...], status: int, says: str) -> None:
    done = dmvpn(*argv, cwd=network.parent)
    assert done.out == ""
    assert done.err.count("\n") == 1, done.err
    assert says in done.err
    assert done.err.startswith("dmvpn: ")
    assert done.status == status


@pytest.mark.parametrize(
    "argv",
    [("chekc",), ("check", "--jsno"), ("render",), ("ping", "x", "--count", "0"), ("lab", "exec")],
    ids=" ".join,
)
def test_a_wrong_use_is_2_and_says_how(argv: tuple[str, ...]) -> None:
    done = dmvpn(*argv)
    assert done.status == 2
    assert "Traceback" not in done.err
    assert "Usage: " in done.err


def test_a_reader_that_goes_is_no_error() -> None:
    argv = f"{sys.executable} -m dmvpn.cli.main schema | head -n 1"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {argv}"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("{\n", "")


def test_who_is_not_root_is_told_so_by_apply(network: Path) -> None:
    if os.geteuid() != 0:
        argv = [sys.executable, "-m", "dmvpn.cli.main"]
    else:
        argv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-m", "dmvpn.cli.main"]
    where = network.parent
    for one in (where, *where.parents):
        if one.name.startswith("pytest-of-"):
            one.chmod(0o755)
            break
        one.chmod(0o755)
    done = subprocess.run(
        [*argv, "apply", str(network), "--router", "par1"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "dmvpn: apply: only root may change this router; run it as root\n"


# ---------------------------------------------------------------- plan


def test_plan_is_2_when_something_would_change_and_touches_nothing(network: Path) -> None:
    before = sorted(network.parent.rglob("*"))
    done = dmvpn("plan", "network.yaml", "--router", "par1", "--json", cwd=network.parent)
    assert done.status == 2
    assert json.loads(done.out)["router"] == "par1"
    assert sorted(network.parent.rglob("*")) == before


def test_plan_says_what_this_frr_cannot_do_before_apply_refuses_it() -> None:
    if not frr_release.DAEMONS.exists() or frr_release.release() >= frr_release.OSPF6_SINCE:
        pytest.skip("this is no FRR 8")
    argv = ("plan", "ospf6.yaml", "--router", "par1")
    done = dmvpn(*argv, cwd=ROOT / "examples")
    said = "the daemons of this machine cannot do it: frr_release: this is FRR 8."
    assert (done.status, said in done.out) == (2, True)
    assert "its ospf6d" in json.loads(dmvpn(*argv, "--json", cwd=ROOT / "examples").out)["lacking"][0]


# ---------------------------------------------------------------- help

SAYS_HELP = """
import runpy, sys
sys.argv = ["dmvpn", *{argv!r}]
try:
    runpy.run_module("dmvpn.cli.main", run_name="__main__")
except SystemExit:
    pass
sys.stdout.flush()
sys.stderr.write(" ".join(sys.modules))
"""


@pytest.mark.parametrize(
    ("argv", "more"),
    [
        pytest.param(("--help",), {"pydantic"}, id="dmvpn"),
        # Typer itself may load pydantic for a verb.
        pytest.param(("check", "--help"), set(), id="check"),
        pytest.param(("status", "--help"), set(), id="status"),
        pytest.param(("lab", "up", "--help"), set(), id="lab up"),
    ],
)
def test_help_loads_nothing_that_takes_long(argv: tuple[str, ...], more: set[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SAYS_HELP.format(argv=argv)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=True,
    )
    assert "Usage: " in done.stdout
    loaded = {name.partition(".")[0] for name in done.stderr.split()}
    assert loaded & {*more, "cryptography", "pyroute2", "vici", "ruamel", "asyncio"} == set()
