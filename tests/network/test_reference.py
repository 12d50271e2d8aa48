"""What is generated from the models is what the repository has."""

import os
from pathlib import Path

import pytest
from pydantic import BaseModel

from dmvpn.network.loading import load
from dmvpn.network.reference import _sections, reference
from dmvpn.network.schema import json_schema

ROOT = Path(__file__).parents[2]


def test_the_file_reference_is_current() -> None:
    page = ROOT / "docs" / "network-file.md"
    if os.environ.get("DMVPN_ACCEPT"):
        page.parent.mkdir(exist_ok=True)
        page.write_text(reference())
    assert page.read_text() == reference(), "run with DMVPN_ACCEPT=1 and look at the diff"


@pytest.mark.parametrize("model", [pytest.param(model, id=path) for path, model in _sections()])
def test_every_key_says_what_it_means(model: type[BaseModel]) -> None:
    assert model.__doc__
    assert [name for name, field in model.model_fields.items() if not field.description] == []


def test_the_schema_knows_every_section_and_refuses_unknown_keys() -> None:
    schema = json_schema()
    assert {model.__name__ for _, model in _sections()} - {"Network"} == {
        name for name, part in schema["$defs"].items() if "properties" in part
    }
    assert schema["additionalProperties"] is False
    assert all(part["additionalProperties"] is False for part in schema["$defs"].values() if "properties" in part)
    assert schema["properties"]["road-warriors"]


def test_the_schema_lets_one_value_stand_for_a_list() -> None:
    overlay = json_schema()["$defs"]["Cloud"]["properties"]["overlay"]
    assert [part.get("type") for part in overlay["anyOf"]] == ["string", "array"]
    load((ROOT / "examples" / "minimal.yaml").read_text().replace("[10.255.1.0/24]", "10.255.1.0/24"), "minimal.yaml")
