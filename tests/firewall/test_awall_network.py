"""awall's files as the policy of a network file: checked with it, rendered for each router, taken along by bundles."""

import re
import subprocess
from pathlib import Path

import pytest

from dmvpn.errors import Problems, WrongInput
from dmvpn.network.slice import slice_secrets
from dmvpn.operations import change, inviting, keeping, outlook, policies, reading
from dmvpn.operations.here import Here
from dmvpn.render.layout import Layout

ROOT = Path(__file__).parents[2]
MINIMAL = (ROOT / "examples" / "minimal.yaml").read_text()
ZONES = '{"zone": {"E": {"iface": "eth0"}, "B": {"iface": "eth1"}, "A": {"iface": "acme-+"}}}'
RULES = """{"import": "zones", "filter": [{"in": "B", "out": "_fw", "service": "ssh"}, {"in": "A"}],
"policy": {"in": "B", "out": "E", "action": "accept"}, "snat": {"out": "E"}}"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A network file beside awall's, in a folder of their own."""
    (tmp_path / "awall").mkdir()
    (tmp_path / "awall" / "zones.json").write_text(ZONES)
    (tmp_path / "awall" / "rules.json").write_text(RULES)
    path = tmp_path / "network.yaml"
    path.write_text(f"{MINIMAL}policy:\n  awall: [awall/rules.json, awall/zones.json]\n")
    return path


def told(file: Path) -> list[str]:
    """Findings, as seen from the folder of the network file."""
    return [str(finding).removeprefix(f"{file.parent}/") for finding in reading.check(file)]


def test_a_router_has_its_needs_and_the_files_rules(file: Path) -> None:
    text = policies.compile_router(reading.read(file), "par1")
    through = re.findall(r'comment "([^"]*)"', text.partition("chain policy_filter_in")[2].partition("}\n\tchain")[0])
    assert "rules.json:1:32" in through
    for need in ("derived: IKE, and ESP in UDP", "derived: BGP", "derived: pings that try a path"):
        assert any(origin.startswith(need) for origin in through), need
    ssh = text.index('tcp dport 22 accept comment "rules.json:1:32"')
    assert text.index("derived: IKE") < ssh < text.index('comment "no rule fits"')
    assert re.search(r'oifname "eth0" meta nfproto ipv4 masquerade comment "rules.json:2:\d+"', text)


@pytest.mark.kernel
def test_nft_takes_it(file: Path, tmp_path: Path) -> None:
    rules = tmp_path / "rules.nft"
    rules.write_text(policies.compile_router(reading.read(file), "hq1"))
    subprocess.run(("unshare", "--net", "nft", "--check", "--file", str(rules)), check=True, timeout=20)


def test_check_tells_what_is_wrong_in_awalls_files(file: Path) -> None:
    (file.parent / "awall" / "rules.json").write_text('{"import": "zone", "filter": [{"in": "X", "proto": "tcp"}]}')
    assert told(file) == [
        'awall/rules.json:1:12: there is no policy "zone" to import; write "zones"',
        'awall/rules.json:1:38: there is no zone "X"; known: A, B, E, _fw',
        'awall/rules.json:1:43: a filter has no attribute "proto"; write "service": "tcp"',
    ]
    with pytest.raises(Problems) as caught:
        reading.plan_of(reading.read(file), "hq1")
    assert caught.value.findings == reading.check(file), "from wherever one is, the path leads there"
    assert Path(caught.value.findings[0].where.split(":")[0]).is_file()


def test_check_tells_warnings_of_awalls_files(file: Path) -> None:
    (file.parent / "awall" / "rules.json").write_text('{"filter": [{"action": "logdrop"}, {"in": "A"}]}')
    (finding,) = reading.check(file)
    assert (finding.warning, finding.where) == (True, f"{file.parent}/awall/rules.json:1:24")


def test_check_tells_devices_that_are_nobodys_and_clouds_without_a_zone(file: Path) -> None:
    assert reading.check(file) == ()
    (file.parent / "awall" / "zones.json").write_text(ZONES.replace("acme-+", "gre1"))
    assert [line for line in told(file) if "route-back" not in line] == [
        "awall/zones.json:1:59: warning: zone A has the device gre1, and no router of the network file has one;"
        " write one of acme-blue, eth0, eth1",
        "awall/zones.json:1:1: warning: the device of cloud blue, acme-blue, is in no zone: nothing passes between"
        ' sites; add a zone with "iface": "acme-blue"',
    ]


def test_check_tells_services_that_are_on_and_let_nobody_in(file: Path) -> None:
    text = file.read_text().replace("  hq:\n", "  hq:\n    services: {dns: {}, ntp: {}, ssh: {}}\n")
    file.write_text(text)
    line = text.splitlines().index("    services: {dns: {}, ntp: {}, ssh: {}}") + 1
    fix = 'add a filter with "out": "_fw" and the service of port'
    expected = [
        f"network.yaml:{line}:16: warning: dns is on, and no rule of awall's files lets anybody ask for it; {fix} 53",
        f"network.yaml:{line}:25: warning: ntp is on, and no rule of awall's files lets anybody ask for it; {fix} 123",
    ]
    rules = file.parent / "awall" / "rules.json"
    rules.write_text(RULES.replace('{"in": "A"}', '{"in": "A", "out": "B"}'))
    assert told(file)[:2] == expected
    assert not any("ssh is on" in line for line in told(file))
    rules.write_text(RULES)
    assert told(file) == [], "all of zone A is"


@pytest.mark.parametrize("link", [pytest.param(False, id="no file"), pytest.param(True, id="a link to nothing")])
def test_a_missing_file_is_told_where_it_is_named(file: Path, link: bool) -> None:  # noqa: FBT001
    path = file.parent / "awall" / "zones.json"
    path.unlink()
    if link:
        path.symlink_to("nowhere")
    line = len(MINIMAL.splitlines()) + 2
    fix = "put it there, or take it out of policy.awall"
    assert told(file) == [f"network.yaml:{line}:29: awall's file {path} is not there; {fix}"]
    with pytest.raises(WrongInput, match=rf"awall/zones\.json: no such file or directory; {fix}"):
        reading.plan_of(reading.read(file), "hq1")


def test_a_bundle_brings_the_files_along(file: Path) -> None:
    loaded = reading.read(file)
    assert slice_secrets(loaded.network, "par1") == ("awall/rules.json", "awall/zones.json")
    assert inviting.secrets_of(loaded, "par1") == (
        ("awall/rules.json", RULES.encode()),
        ("awall/zones.json", ZONES.encode()),
    )
    part = inviting.sliced(loaded, "par1")
    there = file.parent / "there"
    there.mkdir()
    (there / "awall").mkdir()
    for name, octets in inviting.secrets_of(loaded, "par1"):
        (there / name).write_bytes(octets)
    (there / "network.yaml").write_text(part)
    assert reading.plan_of(reading.read(there / "network.yaml"), "par1") == reading.plan_of(loaded, "par1")


def test_a_revision_keeps_the_files_of_its_time(file: Path) -> None:
    loaded = reading.read(file)
    plan = reading.plan_of(loaded, "par1")
    here = Here("acme", Layout("acme"))
    prepared = change.Prepared(loaded, plan, change.render(loaded, plan), here, keeping.Keeper.SUPERVISOR)
    revision = change.with_secrets(prepared)
    for name in ("zones", "rules"):
        (file.parent / "awall" / f"{name}.json").unlink()
    assert outlook.plan_of(revision) == plan
