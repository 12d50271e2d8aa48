"""docs/nhrp.md says what the code does: its tables are read and compared."""

import re
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import get_args

import pytest

from dmvpn.nhrp.events import Action, EngineSettings, Input
from dmvpn.nhrp.registration_client import HubState
from dmvpn.nhrp.shortcut import ShortcutState, WhyNot

TEXT = (Path(__file__).parents[2] / "docs" / "nhrp.md").read_text()
CONSTANTS = re.findall(r"^\| `(\w+)\.(\w+)` \| ([^|]+) \|", TEXT, re.MULTILINE)
DEFAULTS = re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", TEXT, re.MULTILINE)


@pytest.mark.parametrize(("module", "name", "value"), CONSTANTS, ids=lambda part: part)
def test_a_constant_is_what_the_page_says(module: str, name: str, value: str) -> None:
    assert str(getattr(import_module(f"dmvpn.nhrp.{module}"), name)) == value


@pytest.mark.parametrize(("name", "value"), DEFAULTS, ids=lambda part: part)
def test_a_default_is_what_the_page_says(name: str, value: str) -> None:
    (default,) = [field.default for field in fields(EngineSettings) if field.name == name]
    assert str(default) == value


@pytest.mark.parametrize("door", [*get_args(Input), *get_args(Action)], ids=lambda door: door.__name__)
def test_each_input_and_action_is_on_the_page(door: type) -> None:
    assert f"`{door.__name__}`" in TEXT


@pytest.mark.parametrize("name", [*HubState, *ShortcutState, *WhyNot], ids=str)
def test_each_word_of_the_view_is_on_the_page(name: str) -> None:
    assert re.search(rf"(?<![\w-]){name}(?![\w-])", TEXT)
