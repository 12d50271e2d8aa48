"""The seven policies of the wiki: as they stand there, each defect told; mended, nothing."""

from pathlib import Path

import pytest

from dmvpn.errors import Finding, Problems
from dmvpn.operations import policies

WIKI = Path(__file__).parent / "wiki"
MENDED = Path(__file__).parent / "mended"


@pytest.fixture(scope="module")
def findings() -> list[Finding]:
    with pytest.raises(Problems) as caught:
        policies.import_folder(WIKI)
    return list(caught.value.findings)


@pytest.mark.parametrize(
    ("where", "said", "kind"),
    [
        pytest.param("params.json:4:12", "write ':' instead of '='", "wrong", id="1 no JSON, first entry"),
        pytest.param("params.json:5:12", "write ':' instead of '='", "wrong", id="1 second entry"),
        pytest.param("params.json:6:15", "write ':' instead of '='", "wrong", id="1 third entry"),
        pytest.param("params.json:7:15", "write ':' instead of '='", "wrong", id="1 fourth entry"),
        pytest.param("vpnc.json:26:44", 'no attribute "proto"; write "service": "icmp"', "wrong", id="2 proto"),
        pytest.param("mark.json:1:1", "nobody enables or imports the policy mark", "warning", id="3 marks not enabled"),
        pytest.param("dmvpn.json:5:16", "an item of addr is empty", "wrong", id="5 no prefixes of the VPN"),
        pytest.param("dmvpn.json:5:20", "an item of addr is empty", "wrong", id="5 second prefix"),
        pytest.param("dmvpn.json:13:41", "ipsec of a rule is an old word", "warning", id="5 old ipsec, in"),
        pytest.param("dmvpn.json:14:41", "ipsec of a rule is an old word", "warning", id="5 old ipsec, out"),
        pytest.param("openvpn.json:8:5", "no zone has its device", "warning", id="6 road warriors without a zone"),
        pytest.param("vpnc.json:9:5", "nothing lets zone B to E", "warning", id="7 no Internet for the LAN"),
        pytest.param("vpnc.json:9:5", "but not for an address", "warning", id="7 no DHCP for the LAN"),
        pytest.param("internet-host.json:12:5", "an address from E: no dhcp", "warning", id="7 no DHCP client"),
        pytest.param("internet-host.json:12:5", "packages, network time", "warning", id="7 no https for the router"),
        pytest.param(
            "vpnc.json:13:5", "to the router itself is accepted as well", "warning", id="7 the VPN into the router"
        ),
        pytest.param("openvpn.json:5:5", "awall has a service openvpn already", "warning", id="8 service twice"),
        pytest.param("vpnc.json:16:5", "is logged, one entry a second", "warning", id="8 drops logged"),
        pytest.param("internet-host.json:10:5", "hosts behind the router is accepted", "warning", id="9 pings"),
        pytest.param("dmvpn.json:8:5", "a hub needs it", "warning", id="11 no way back on a hub"),
    ],
)
def test_each_defect_of_the_wiki_is_told_with_its_place(
    findings: list[Finding], where: str, said: str, kind: str
) -> None:
    at = f"{WIKI}/optional/{where}"
    assert any(one.where == at and one.warning is (kind == "warning") and said in str(one) for one in findings)


def test_nothing_else_is_wrong_with_it(findings: list[Finding]) -> None:
    # C may not ask for addresses either. That E, ISP1 and ISP2 overlap (the tenth) is meant, and no finding.
    assert len(findings) == 21
    assert sum(not one.warning for one in findings) == 7


def test_marks_of_one_direction_are_told(tmp_path: Path) -> None:
    for path in (WIKI / "optional").iterdir():
        (tmp_path / path.name).write_text(path.read_text())
    with pytest.raises(Problems) as caught:
        policies.import_folder(tmp_path)
    said = [str(one).removeprefix(f"{tmp_path}/") for one in caught.value.findings if "mark.json" in one.where]
    assert said == [
        "mark.json:8:5: warning: connections that come in by ISP1 are not marked: their answers leave by the main"
        ' default route; add {"in": "ISP1", "mark": 1}',
        "mark.json:9:5: warning: connections that come in by ISP2 are not marked: their answers leave by the main"
        ' default route; add {"in": "ISP2", "mark": 2}',
    ]


def test_the_mended_policies_have_nothing_left_to_tell() -> None:
    folder = policies.import_folder(MENDED)
    assert folder.warnings == ()
    order = [Path(path).stem for path in folder.order]
    assert order == ["params", "internet-host", "clampmss", "dmvpn", "mark", "openvpn", "vpnc"]
