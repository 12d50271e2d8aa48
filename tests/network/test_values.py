"""Values: what is taken, what is not, and that no string can add a line to a rendered file."""

import re
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from dmvpn.errors import Problems
from dmvpn.network import values
from dmvpn.network.lab_model import Lab, LabLink, settled
from dmvpn.network.loading import check, load
from dmvpn.network.values import Spelling

SPELLINGS = sorted(
    (name, word)
    for name, kind in vars(values).items()
    if get_origin(kind) is Annotated
    for word in kind.__metadata__
    if isinstance(word, Spelling)
)
EXAMPLES = Path(__file__).parents[2] / "examples"


def adapted(name: str) -> TypeAdapter[Any]:
    return TypeAdapter(getattr(values, name))


@pytest.mark.parametrize(("name", "word"), SPELLINGS, ids=[name for name, _ in SPELLINGS])
def test_a_string_type_takes_its_own_example(name: str, word: Spelling) -> None:
    text = word.example.strip("'")
    assert adapted(name).validate_python(text) == text


@pytest.mark.parametrize(("name", "word"), SPELLINGS, ids=[name for name, _ in SPELLINGS])
@pytest.mark.parametrize(
    "poison", ["\n", "\r", "\0", "\t", '"', "'", "`", "$", "\\", ";", "#", "{", "}", "!", "\u2028", "é"]
)
@pytest.mark.parametrize("place", ["before", "inside", "after"])
def test_no_string_type_takes_a_character_that_could_end_a_line_or_a_word(
    name: str, word: Spelling, poison: str, place: str
) -> None:
    good = word.example.strip("'")
    middle = len(good) // 2
    text = {"before": poison + good, "inside": good[:middle] + poison + good[middle:], "after": good + poison}[place]
    with pytest.raises(ValidationError):
        adapted(name).validate_python(text)


@given(st.text(max_size=40))
def test_what_a_string_type_takes_is_one_line_of_plain_characters(text: str) -> None:
    for name, word in SPELLINGS:
        try:
            adapted(name).validate_python(text)
        except ValidationError:
            continue
        assert re.fullmatch(r"[A-Za-z0-9 ._:=+/,@*~-]*", text), name
        assert len(text) <= word.longest


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("Seconds", "25ms", 0.025),
        ("Seconds", "1s", 1.0),
        ("Seconds", 600, 600),
        ("Seconds", "1.5h", 5400.0),
        ("WholeSeconds", "2h", 7200),
        ("WholeSeconds", "600", 600),
        ("BitsPerSecond", "100M", 100_000_000),
        ("BitsPerSecond", "2.5G", 2_500_000_000),
        ("BitsPerSecond", "64k", 64_000),
        ("Fraction", "0.1%", 0.001),
        ("Fraction", "0%", 0.0),
        ("Fraction", 0.5, 0.5),
        ("Asn", "4200000001", 4200000001),
        ("VlanId", 4094, 4094),
    ],
)
def test_a_number_has_its_unit(name: str, text: object, value: float) -> None:
    taken = adapted(name).validate_python(text)
    assert taken == pytest.approx(value)
    assert isinstance(taken, int) or name in ("Seconds", "Fraction")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Seconds", "25 parsecs"),
        ("Seconds", "-1s"),
        ("Seconds", True),
        ("Seconds", float("inf")),
        ("Seconds", float("nan")),
        ("WholeSeconds", "500ms"),
        ("WholeSeconds", float("inf")),
        ("BitsPerSecond", "1e9"),
        ("BitsPerSecond", "10"),
        ("Fraction", "101%"),
        ("VlanId", 0),
        ("VlanId", 4095),
        ("Asn", 0),
        ("Asn", 4294967295),
        ("PortNumber", 65536),
        ("GreKey", 4294967296),
        ("Address", "10.0.0.256"),
        ("Address", "fe80::1%eth0"),
        ("Address", 167772161),
        ("Prefix", "10.0.0.0"),
        ("Prefix", "10.0.0.1/8"),
        ("Prefix4", "fd00::/8"),
        ("Interface", "10.0.0.1"),
        ("Path", "/etc/../shadow"),
        ("Path", ".."),
        ("Path", "a/.."),
    ],
)
def test_a_value_out_of_its_kind_is_refused(name: str, text: object) -> None:
    with pytest.raises(ValidationError):
        adapted(name).validate_python(text)


def test_a_list_type_takes_one_value_alone() -> None:
    assert adapted("Names").validate_python("isp1") == ("isp1",)
    assert len(get_args(values.Names)) == 3


def test_a_lab_link_takes_what_it_does_not_say_from_the_wan() -> None:
    lab = Lab.model_validate({"wan": {"delay": "20ms", "rate": "100M"}, "uplinks": {"hel1.isp1": {"delay": "5ms"}}})
    assert settled(lab.uplinks["hel1.isp1"], lab.wan) == LabLink.model_construct(
        delay=0.005, jitter=None, loss=None, rate=100_000_000, mtu=None
    )


@pytest.mark.parametrize("cut", range(0, 3000, 61))
def test_a_file_cut_anywhere_is_a_finding_and_never_a_traceback(cut: int) -> None:
    text = (EXAMPLES / "wiki.yaml").read_text()[:cut]
    for finding in check(text, "cut.yaml"):
        assert re.match(r"cut\.yaml:\d+:\d+: ", str(finding))


@given(st.text(alphabet="ab: -[]{}&*!|>'\"%@`#?,\n\t1", max_size=60))
def test_any_text_is_a_finding_and_never_a_traceback(text: str) -> None:
    assert check(text, "any.yaml")


def test_a_large_file_is_refused_before_it_is_read() -> None:
    with pytest.raises(Problems, match="larger than"):
        load("#" * (4 * 1024 * 1024 + 1), "large.yaml")
