"""dmvpn firewall import and compile: statuses, and where each word goes."""

import json
import subprocess
from pathlib import Path

import pytest
from dmvpn_command import ROOT, dmvpn

WIKI = "tests/firewall/wiki"
MENDED = "tests/firewall/mended"


def test_the_wikis_policies_end_with_2_and_every_repair() -> None:
    done = dmvpn("firewall", "import", WIKI)
    assert (done.status, done.out) == (2, "")
    first = f"dmvpn: {WIKI}/optional/params.json:4:12: \"B_IF\" = ... is not JSON; write ':' instead of '='"
    assert first in done.err.splitlines()


def test_good_policies_end_with_0_and_what_to_write() -> None:
    done = dmvpn("firewall", "import", MENDED)
    assert (done.status, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == f"{MENDED}: good: 7 policies, 8 zones, 16 filters"
    assert lines[2:5] == ["policy:", "  awall:", f"    - {MENDED}/optional/params.json"]


def test_warnings_end_with_3(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"filter": [{"action": "logdrop"}]}')
    done = dmvpn("firewall", "import", str(tmp_path), "--json")
    assert done.status == 3
    said = json.loads(done.out)
    assert said["files"] == [str(tmp_path / "a.json")]
    assert said["warnings"][0]["where"] == f"{tmp_path}/a.json:1:24"
    assert said["policy"]["rules"][0]["action"] == "drop"


@pytest.mark.kernel
def test_compiled_policies_are_what_nft_takes(tmp_path: Path) -> None:
    done = dmvpn("firewall", "compile", "--awall", MENDED)
    assert (done.status, done.err) == (0, "")
    rules = tmp_path / "rules.nft"
    rules.write_text(done.out)
    subprocess.run(("unshare", "--net", "nft", "--file", str(rules)), check=True, timeout=20)


def test_a_routers_rules_are_printed() -> None:
    done = dmvpn("firewall", "compile", "vpnc", "--file", "examples/wiki.yaml")
    assert done.status == 0
    assert 'comment "policy.rules[0]"' in done.out


@pytest.mark.parametrize("argv", [(), ("vpnc", "--awall", MENDED)])
def test_compile_wants_a_router_or_a_folder(argv: tuple[str, ...]) -> None:
    done = dmvpn("firewall", "compile", *argv)
    assert (done.status, done.out) == (2, "")
    assert "needs either a router or --awall DIR" in done.err


def test_what_is_wrong_with_the_folder_is_told(tmp_path: Path) -> None:
    done = dmvpn("firewall", "compile", "--awall", str(tmp_path / "none"))
    assert (done.status, done.err) == (
        2,
        f"dmvpn: {tmp_path}/none: is no folder; name the folder that awall's files are in\n",
    )
    assert (ROOT / MENDED).is_dir()
