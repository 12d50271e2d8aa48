"""The order of policies: awall's own, whatever the files' places; merging; what is on and what is not."""

import json
from pathlib import Path

import pytest

from dmvpn.errors import Problems, WrongInput
from dmvpn.firewall.awall.builtin import SERVICES
from dmvpn.firewall.awall.translation import Source, translate
from dmvpn.firewall.policy import PortRange, Traffic
from dmvpn.operations import policies


def order(**files: dict[str, object]) -> list[str]:
    sources = [Source(f"{name}.json", json.dumps(content)) for name, content in files.items()]
    return [path.removesuffix(".json") for path in translate(sources).order]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({"b": {}, "c": {}, "a": {}}, "a b c", id="by name"),
        pytest.param({"a": {"import": "c"}, "b": {}, "c": {}}, "c a b", id="behind what is imported"),
        pytest.param({"a": {"import": ["c", "b"]}, "b": {}, "c": {}}, "c b a", id="imports as they are named"),
        pytest.param({"a": {"after": "c"}, "b": {}, "c": {}}, "c a b", id="after"),
        pytest.param({"a": {}, "b": {}, "c": {"before": "a"}}, "c a b", id="before"),
        pytest.param({"a": {"import": "c", "before": "c"}, "c": {}}, "a c", id="imported, and yet before"),
        pytest.param({"a": {"import": "c", "after": []}, "c": {}}, "a c", id="after instead of imports"),
        pytest.param({"a": {}, "z": {"before": "%defaults"}}, "z a", id="before all others"),
        pytest.param({"a": {"after": "elsewhere"}, "b": {}}, "a b", id="after what is not there"),
        pytest.param({"a": {"import": "%defaults"}}, "a", id="the pseudo policy is always there"),
        pytest.param(
            {
                "clampmss": {"import": "internet-host"},
                "dmvpn": {"import": "internet-host"},
                "internet-host": {"import": "params"},
                "mark": {"import": ["params", "internet-host"]},
                "openvpn": {"import": "internet-host"},
                "params": {},
                "vpnc": {"import": ["params", "internet-host", "dmvpn"]},
            },
            "params internet-host clampmss dmvpn mark openvpn vpnc",
            id="the wiki",
        ),
    ],
)
def test_the_order(files: dict[str, dict[str, object]], expected: str) -> None:
    assert order(**files) == expected.split()


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            {"a": {"import": "b"}, "b": {"import": "a"}},
            "a.json:1:1: the policies a, b each come after the other; take one of them out of import, after or before",
        ),
        (
            {"a": {"after": "a"}},
            "a.json:1:1: the policies a each come after the other; take one of them out of import, after or before",
        ),
        (
            {"a": {"before": "%defaults", "after": "b"}, "b": {}},
            "a.json:1:1: the policies %defaults, a, b each come after the other;"
            " take one of them out of import, after or before",
        ),
        ({"a": {"import": "bb"}, "bbb": {}}, 'a.json:1:12: there is no policy "bb" to import; write "bbb"'),
        ({"a": {"import": "x"}}, 'a.json:1:12: there is no policy "x" to import; known: a'),
        ({"a": {"import": 7}}, "a.json:1:12: import names policies, this is the number 7; write names of policies"),
    ],
)
def test_an_order_that_is_none(files: dict[str, dict[str, object]], said: str) -> None:
    with pytest.raises(Problems) as caught:
        order(**files)
    assert str(caught.value) == said


def test_a_chain_of_imports_may_be_long() -> None:
    files = {f"p{number:03}": {"import": f"p{number + 1:03}"} for number in range(250)}
    assert order(**files, p250={})[0] == "p250"


def test_rules_are_appended_and_definitions_replaced_in_that_order() -> None:
    first = {"variable": {"port": 1}, "service": {"s": {"proto": "tcp", "port": "$port"}}, "filter": [{"service": "s"}]}
    second = {"import": "z", "variable": {"port": 2}, "filter": {"service": "ssh"}}
    sources = [Source("a.json", json.dumps(second)), Source("z.json", json.dumps(first))]
    policy = translate(sources).policy
    assert [rule.origin.partition(":")[0] for rule in policy.rules] == ["z.json", "a.json"]
    assert policy.services[0].traffic == (Traffic(6, (PortRange(2, 2),)),)


def test_one_policy_name_in_two_places_is_told() -> None:
    with pytest.raises(Problems, match=r"one/a\.json is policy"):
        translate([Source("one/a.json", "{}"), Source("two/a.yaml", "{}")])


def test_every_service_that_awall_brings_can_be_named() -> None:
    translated = translate([Source("a.json", json.dumps({"filter": [{"service": sorted(SERVICES)}]}))])
    assert len(translated.policy.services) == len(SERVICES) > 60


# ---------------------------------------------------------------- folders


def test_of_optional_policies_those_count_that_are_linked_or_imported(tmp_path: Path) -> None:
    optional = tmp_path / "optional"
    optional.mkdir()
    (tmp_path / "private").mkdir()
    (tmp_path / "base.json").write_text("{}")
    (optional / "on.json").write_text('{"import": "needed"}')
    (optional / "off.yaml").write_text("filter: []\n")
    (tmp_path / "private" / "needed.json").write_text("{}")
    (tmp_path / "on.json").symlink_to("optional/on.json")
    (tmp_path / "notes.txt").write_text("no policy")
    (tmp_path / "my_policy.json").write_text("{}")
    folder = policies.import_folder(tmp_path)
    assert [path.removeprefix(f"{tmp_path}/") for path in folder.order] == [
        "base.json",
        "private/needed.json",
        "optional/on.json",
    ]
    assert [str(one).removeprefix(f"{tmp_path}/") for one in folder.warnings] == [
        "my_policy.json:1:1: warning: awall reads no file of this name; rename it: letters, digits and -, then .json or"
        " .yaml",
        "optional/off.yaml:1:1: warning: nobody enables or imports the policy off: its filter do nothing;"
        " enable off, or remove the file",
    ]


def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match="is no folder"):
        policies.import_folder(tmp_path / "none")
    with pytest.raises(Problems, match="there is no policy file in it"):
        policies.import_folder(tmp_path)
    (tmp_path / "latin.json").write_bytes(b'{\n "description": "caf\xe9"}')
    (tmp_path / "gone.json").symlink_to("optional/gone.json")
    expected = [
        "gone.json:1:1: a link to optional/gone.json, which is not there; mend the link, or remove it",
        "latin.json:2:21: octet 0xe9 is not UTF-8; save it as UTF-8",
    ]
    for others in ((), ("good.json",)):
        for name in others:
            (tmp_path / name).write_text("{}")
        with pytest.raises(Problems) as caught:
            policies.import_folder(tmp_path)
        assert [str(one).removeprefix(f"{tmp_path}/") for one in caught.value.findings] == expected
