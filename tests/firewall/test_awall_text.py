"""The text of policy files: JSON to the letter, YAML in the part that says the same, each mistake with its place."""

import json

import pytest

from dmvpn.firewall.awall import json_text, yaml_text
from dmvpn.firewall.awall.document import DEEPEST, Node, Report, every


def plain(node: Node | None) -> object:
    assert node is not None
    match node.value:
        case tuple():
            return [plain(item) for item in node.value]
        case dict():
            return {name: plain(member.value) for name, member in node.value.items()}
    return node.value


GOOD = [
    "{}",
    "[]",
    '{"a": [1, -2, 3.5, 1e3, true, false, null, "x"], "b": {"c": {}}}',
    ' \t\r\n{ "a" : "\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\ude00" } \n',
    '"text"',
    "[[], [[]], {}]",
    '{"": 0}',
    "-0",
]


@pytest.mark.parametrize("text", GOOD)
def test_what_is_json_is_read_as_json(text: str) -> None:
    report = Report()
    assert plain(json_text.read(text, "p.json", report)) == json.loads(text)
    assert report.findings == []


def test_every_value_has_its_place() -> None:
    node = json_text.read('{\n  "a": [1,\n    "é", {"b": 2}]\n}\n', "p.json", Report())
    assert node is not None
    assert isinstance(node.value, dict)
    member = node.value["a"]
    assert (str(member.at), str(member.value.at)) == ("p.json:2:3", "p.json:2:8")
    items = member.value.value
    assert isinstance(items, tuple)
    assert [str(item.at) for item in items] == ["p.json:2:9", "p.json:3:5", "p.json:3:10"]
    assert isinstance(items[2].value, dict)
    assert str(items[2].value["b"].value.at) == "p.json:3:16"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("", ["1:1: the file is empty; write {} for a policy that says nothing"], id="nothing"),
        pytest.param('{"B_IF" = "b"}', ["1:9: \"B_IF\" = ... is not JSON; write ':' instead of '='"], id="equals"),
        pytest.param('{"a" := 1}', ["1:6: \"a\" := ... is not JSON; write ':' instead of ':='"], id="assignment"),
        pytest.param('{"a" => 1}', ["1:6: \"a\" => ... is not JSON; write ':' instead of '=>'"], id="arrow"),
        pytest.param('{"a" 1}', ["1:6: no ':' follows the name \"a\"; write ':' and its value"], id="no colon"),
        pytest.param('{"a": 1,}', ["1:8: a comma stands before the closing }; remove it"], id="comma too many"),
        pytest.param("[1,\n2,\n]", ["2:2: a comma stands before the closing ]; remove it"], id="comma in a list"),
        pytest.param(
            '{"a": 1\n"b": 2}', ["2:1: no ',' stands before this; write ',' behind the value before it"], id="no comma"
        ),
        pytest.param('{"a": 1; "b": 2}', ["1:8: ';' separates nothing in JSON; write ','"], id="semicolon"),
        pytest.param("{a: 1}", ['1:2: the name "a" stands without quotes; write "a"'], id="bare name"),
        pytest.param('{"a": eth0}', ['1:7: "eth0" stands without quotes; write "eth0"'], id="bare word"),
        pytest.param(
            "{'a': 'b'}",
            [
                '1:2: \' begins no string of JSON; write "a"',
                '1:7: \' begins no string of JSON; write "b"',
            ],
            id="apostrophes",
        ),
        pytest.param('{"a": \u201cb\u201d}', ['1:7: \u201c begins no string of JSON; write "b"'], id="typeset quotes"),
        pytest.param('{"a": True}', ["1:7: True is no word of JSON; write true"], id="True"),
        pytest.param(
            '{"a": 0x10}',
            ['1:7: "0x10" is no number of JSON; write it in decimal, without + or a leading 0'],
            id="hexadecimal",
        ),
        pytest.param(
            '{"a": 010}',
            ['1:7: "010" is no number of JSON; write it in decimal, without + or a leading 0'],
            id="leading zero",
        ),
        pytest.param(
            '// x\n{"a": 1} # y',
            [
                "1:1: JSON has no comments; remove it, or write it as a description",
                "2:10: JSON has no comments; remove it, or write it as a description",
            ],
            id="comments",
        ),
        pytest.param(
            '{"a": 1, "a": 2}', ['1:10: "a" is here twice; remove one of them; the other is on line 1'], id="twice"
        ),
        pytest.param(
            '{"a": "b\nc"}',
            ['1:7: the string that begins here does not end on its line; close it with "'],
            id="open string",
        ),
        pytest.param('{"a": [1}', ["1:9: '}' closes the bracket of 1:7; write ']'"], id="wrong bracket"),
        pytest.param('{"a": [1', ["1:9: the file ends before the bracket of 1:7 is closed; write ']'"], id="open list"),
        pytest.param(
            '{"a": 1', ["1:8: the file ends before the bracket of 1:1 is closed; write '}'"], id="open object"
        ),
        pytest.param(
            '{"a":',
            ["1:6: the file ends where a value is expected; write the value, or remove the comma or colon"],
            id="cut off",
        ),
        pytest.param(
            "{}}",
            ["1:3: the text goes on behind the policy's end; remove what follows, or the closing bracket before it"],
            id="too much",
        ),
        pytest.param('{"a": "\\x"}', ['1:8: "\\x" is no escape of JSON; write \\\\ for a backslash'], id="escape"),
        pytest.param('{"a": "\\ud800"}', ["1:8: half of a surrogate pair; write the character itself"], id="surrogate"),
        pytest.param('{"a": "\x01"}', ["1:8: the character U+0001 stands in a string; remove it"], id="control"),
        pytest.param('{"a": "\t"}', ["1:8: a tab stands in a string; write \\t"], id="tab"),
        pytest.param("{1: 2}", ['1:2: the name "1" stands without quotes; write "1"'], id="number as a name"),
        pytest.param(
            "{,}", ['1:2: "," is here where a name in quotes is expected; write a name, or remove it'], id="comma first"
        ),
        pytest.param(
            "[,]", ['1:2: "," is here where a value is expected; write a value, or remove it'], id="comma for a value"
        ),
    ],
)
def test_a_mistake_in_json_is_told_with_what_to_write(text: str, said: list[str]) -> None:
    report = Report()
    json_text.read(text, "p.json", report)
    assert [str(finding) for finding in report.findings] == [f"p.json:{one}" for one in said]


def test_all_near_misses_of_a_file_are_told_at_once() -> None:
    report = Report()
    node = json_text.read('{"variable": {"A" = "x", \'B\': y,\n"C": True "D": 1,}}', "p.json", report)
    assert plain(node) == {"variable": {"A": "x", "B": "y", "C": True, "D": 1}}
    assert len(report.findings) == 6


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_the_depth_is_bounded(opening: str, closing: str) -> None:
    report = Report()
    assert json_text.read(opening * 9999 + "1" + closing * 9999, "p.json", report) is None
    assert f"more than {DEEPEST} levels deep" in str(report.findings[0])
    report = Report()
    assert yaml_text.read(opening * 9999 + "1" + closing * 9999, "p.yaml", report) is None
    assert f"more than {DEEPEST} levels deep" in str(report.findings[0])


def test_yaml_says_the_same_as_json() -> None:
    text = "description: x\nzone:\n  E: {iface: [eth0, '1'], ipsec: true}\nfilter:\n- in: E\n  n: 7\n  f: 1.5\n"
    report = Report()
    node = yaml_text.read(text, "p.yaml", report)
    assert plain(node) == {
        "description": "x",
        "zone": {"E": {"iface": ["eth0", "1"], "ipsec": True}},
        "filter": [{"in": "E", "n": 7, "f": 1.5}],
    }
    assert report.findings == []
    assert node is not None
    assert isinstance(node.value, dict)
    assert str(node.value["filter"].at) == "p.yaml:4:1"


def test_a_member_without_a_value_is_where_its_name_is() -> None:
    node = yaml_text.read("filter:\n  - in:\nzone:\n", "p.yaml", Report())
    assert node is not None
    nulls = [str(one.at) for one in every(node) if one.value is None]
    assert nulls == ["p.yaml:2:5", "p.yaml:3:1"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "1:1: the file is empty"),
        ("a: [1", "1:6: not YAML"),
        ("a: yes", "1:4: yes is a word or a truth value; write true or false, or put it in quotes"),
        ("a: 1\na: 2", '2:1: "a" is here twice'),
        ("a: !x 1", '1:4: the tag "!x" is not read'),
        ("a: &x {b: 1}\nc: {<<: *x}", "2:5: merge keys (<<) are not read"),
        ("? [1]\n: 2", "1:3: a mapping or a list cannot be a name"),
        ("a: 1\n---\nb: 2", "2:1: a second document begins here"),
        ("a: &x [*x]", "1:4: "),
        ("a: \x07", "1:1: not YAML"),
    ],
)
def test_a_mistake_in_yaml_is_told_with_its_place(text: str, said: str) -> None:
    report = Report()
    yaml_text.read(text, "p.yaml", report)
    assert str(report.findings[0]).startswith(f"p.yaml:{said}")


def test_aliases_are_bounded() -> None:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
    report = Report()
    assert yaml_text.read(bomb, "p.yaml", report) is None
    assert "too large once its aliases are followed" in str(report.findings[0])
