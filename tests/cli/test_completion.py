"""Completing a command line as bash asks for it, and the scripts that ask."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DMVPN = ROOT / ".venv" / "bin" / "dmvpn"


def completed(line: str, directory: Path) -> list[str]:
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1), "_DMVPN_COMPLETE": "complete_bash"}
    done = subprocess.run((str(DMVPN),), cwd=directory, env={**os.environ, **words}, capture_output=True, text=True)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    there = tmp_path_factory.mktemp("completion")
    shutil.copy(ROOT / "examples" / "demo.yaml", there / "network.yaml")
    return there


@pytest.mark.parametrize(
    ("line", "words"),
    [
        pytest.param("dmvpn roll", ["rollback"], id="a verb"),
        pytest.param("dmvpn pki iss", ["issue"], id="a verb below another"),
        pytest.param("dmvpn render p", ["par1"], id="a router"),
        pytest.param("dmvpn explain paris l", ["lyon", "lyo1"], id="a site or router"),
        pytest.param("dmvpn completion z", ["zsh"], id="a choice"),
    ],
)
def test_words_are_completed_with_what_the_file_here_has(line: str, words: list[str], directory: Path) -> None:
    assert completed(line, directory) == words


@pytest.mark.parametrize("text", ["sites: [", "- 1", "sites: {a: 3, 7: {routers: {x: }}}"])
def test_a_wrong_file_completes_nothing_and_says_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "network.yaml").write_text(text)
    assert completed("dmvpn render p", tmp_path) == []


@pytest.mark.parametrize(("shell", "says"), [("bash", "complete -o"), ("zsh", "#compdef dmvpn"), ("fish", "complete ")])
def test_the_script_is_printed_and_the_shell_can_read_it(shell: str, says: str) -> None:
    script = subprocess.run((str(DMVPN), "completion", shell), capture_output=True, text=True, check=True).stdout
    assert says in script
    if shutil.which(shell):
        subprocess.run((shell, "-n"), input=script, text=True, check=True)
