"""docs/command-line.md is what the commands are, and every command that a page or a story names is one."""

import os
import re
from pathlib import Path

import pytest
from page import PAGES, ROOT

from dmvpn.cli.main import app
from dmvpn.cli.reference import commands, inner_of, reference

PAGE = ROOT / "docs" / "command-line.md"
# A command in backquotes, in a block or in a scenario's closing words.
NAMED = re.compile(r"(?:^|[`$ ])dmvpn ((?:[a-z]+(?:-[a-z]+)* ?){1,3})", re.MULTILINE)


def test_the_page_is_current() -> None:
    if os.environ.get("DMVPN_ACCEPT"):
        PAGE.write_text(reference(app))
    assert PAGE.read_text() == reference(app), "run with DMVPN_ACCEPT=1 and look at the diff"


COMMANDS = dict(commands(app))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_verb_and_every_argument_says_what_it_is(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    unsaid = [one.name for one in command.params if not getattr(one, "help", "x")]
    assert unsaid == []


@pytest.mark.parametrize(
    "path",
    [*PAGES, *sorted((ROOT / "src/dmvpn/lab/scenarios").glob("*.yaml"))],
    ids=lambda path: path.name,
)
def test_a_command_that_is_named_exists(path: Path) -> None:
    verbs = {name.split()[1] for name in COMMANDS if " " in name}
    groups = {name.removeprefix("dmvpn ") for name, command in COMMANDS.items() if inner_of(command) is not None}
    text = path.read_text()
    for words in (match[1].split() for match in NAMED.finditer(text)):
        if words[0] in groups and len(words) > 1:
            assert f"dmvpn {words[0]} {words[1]}" in COMMANDS, words
        elif words[0] not in verbs:
            pytest.fail(f"dmvpn {words[0]}: no such verb")
