"""README and docs: every command block is run, in a copy of the checkout, and prints what the page shows."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from page import COMMANDS, LANGUAGES, PAGES, ROOT, Block, blocks, differs

SESSION_LIMIT_S = 280
REPEAT_LIMIT = 60
BLOCKS = [block for page in PAGES for block in blocks(page)]
WORDS = re.compile(r"lab|on [a-z0-9-]+|status \d+|needs [a-z0-9-]+|network|make|repeat")
LINK = re.compile(r"\[[^\]]*\]\(([^)#]+)(#[^)]*)?\)")


def named(block: Block) -> str:
    return block.where


def pages_with(*, lab: bool = False, network: bool = False) -> list[object]:
    """A session for each page with commands of the kind. A session with labs runs the page's plain commands too."""
    sessions: list[object] = []
    for page in PAGES:
        chosen = [
            block
            for block in BLOCKS
            if block.page == page
            and "make" not in block.run
            and ("network" in block.run) is network
            and (lab or not block.wants_lab)
            and (block.language in COMMANDS or block.file)
        ]
        commands = [block for block in chosen if block.language in COMMANDS]
        if commands and (not lab or any(block.wants_lab for block in commands)):
            sessions.append(pytest.param(chosen, id=page.name))
    return sessions


# ---------------------------------------------------------------- the pages themselves


@pytest.mark.parametrize("block", BLOCKS, ids=named)
def test_a_block_says_what_it_is(block: Block) -> None:
    assert block.language in LANGUAGES, f"write one of {sorted(LANGUAGES)} after the fence"
    assert [word for word in block.run if not WORDS.fullmatch(word)] == []


@pytest.mark.parametrize("block", [block for block in BLOCKS if "make" in block.run], ids=named)
def test_a_make_command_is_a_target(block: Block) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for line in block.text.splitlines():
        verb, target = line.partition("#")[0].split()
        assert verb == "make"
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make has no target {target}"
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True, timeout=20)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_link_leads_somewhere(page: Path) -> None:
    links = [link[1] for link in LINK.finditer(page.read_text()) if "://" not in link[1]]
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    others = [page.name for page in (ROOT / "docs").glob("*.md") if page.name != "README.md"]
    assert [name for name in others if f"({name})" not in index] == []


@pytest.mark.parametrize(
    ("said", "expected", "good"),
    [
        pytest.param("a\nb\n", ("a", "b"), True, id="the same"),
        pytest.param("a  \nb\n", ("a", "b"), True, id="blanks at the end"),
        pytest.param("up 3.2s\n", ("up …s",), True, id="a part of a line"),
        pytest.param("a\nb\nc\nd\n", ("a", "…", "d"), True, id="lines between"),
        pytest.param("a\n", ("…", "a", "…"), True, id="no lines between"),
        pytest.param("", (), True, id="nothing"),
        pytest.param("a\nb\n", ("a",), False, id="more"),
        pytest.param("a\n", ("a", "b"), False, id="less"),
        pytest.param("a.c\n", ("abc",), False, id="a dot is a dot"),
        pytest.param("a\nb\n", ("…", "c"), False, id="not after any number of lines"),
    ],
)
def test_output_is_compared_loosely_but_compared(said: str, expected: tuple[str, ...], *, good: bool) -> None:
    assert (differs(said, expected) == "") is good


# ---------------------------------------------------------------- running them


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what is in the repository, with the .venv/ of the original."""
    copy = tmp_path / "checkout"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    for name in listed.stdout.split("\0"):
        if name and (ROOT / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    if (ROOT / ".venv").is_dir():
        (copy / ".venv").symlink_to(ROOT / ".venv")
    return copy


def session(chosen: list[Block], directory: Path) -> list[tuple[str, str, str]]:
    """A shell script that runs the blocks one after the other; and where, what is expected, and the output's file."""
    script, expected = ["set -u", "out=", "trap '[ $? = 0 ] || cat \"$out\"' EXIT"], []
    for block in chosen:
        if block.file:
            script.append(f"cat >{shlex.quote(block.file)} <<'END OF BLOCK'\n{block.text}\nEND OF BLOCK")
        if block.needs and shutil.which(block.needs) is None:
            continue
        commands = block.commands()
        for number, command in enumerate(commands):
            out = directory / f"{block.line}.{number}"
            wanted = block.status if number == len(commands) - 1 else 0
            typed = command.typed
            if block.node:
                typed = f"dmvpn lab exec {block.node} bash -ec {shlex.quote(typed)}"
            elif block.language == "sh":
                typed = f"set -e\n{typed}\nset +e"
            script.append(f"echo {shlex.quote(f'{block.where}: {command.typed}')} >{directory}/now")
            tries = REPEAT_LIMIT if "repeat" in block.run else 1
            script.append(f"out={out}")
            script.append(f"for try in {{1..{tries}}}; do\n{{\n{typed}\n}} >{out} 2>&1 </dev/null")
            script.append(f"status=$?; [ $status != {wanted} ] || break; [ $try = {tries} ] || sleep 0.5; done")
            script.append(f"[ $status = {wanted} ] || {{ echo ended with status $status; exit 1; }}")
            if command.prints is not None:
                expected.append((f"{block.where}: $ {command.typed}", "\n".join(command.prints), str(out)))
    (directory / "script").write_text("\n".join(script) + "\n")
    return expected


def run(chosen: list[Block], checkout: Path, around: tuple[str, ...]) -> None:
    directory = checkout.parent / "session"
    directory.mkdir()
    expected = session(chosen, directory)
    done = subprocess.run(
        [*around, "bash", str(directory / "script")],
        cwd=checkout,
        env={
            "PATH": f"{checkout}/.venv/bin:{os.environ['PATH']}",
            "HOME": str(checkout.parent),
            "NO_COLOR": "1",
            "LANG": "C.UTF-8",
            **{key: value for key, value in os.environ.items() if key.startswith("PIP_")},
        },
        capture_output=True,
        text=True,
        timeout=SESSION_LIMIT_S,
        check=False,
    )
    now = (directory / "now").read_text() if (directory / "now").exists() else ""
    assert done.returncode == 0, f"{now}{done.stdout}{done.stderr}"
    for where, shown, out in expected:
        said = Path(out).read_text()
        assert differs(said, tuple(shown.splitlines())) == "", f"{where}\n{said}"


@pytest.mark.parametrize("chosen", pages_with())
def test_the_plain_commands_of_a_page_run(chosen: list[Block], checkout: Path) -> None:
    run(chosen, checkout, ())


@pytest.mark.slow
@pytest.mark.patient
@pytest.mark.parametrize("chosen", pages_with(network=True))
def test_the_commands_of_a_page_that_fetch_packages_run(chosen: list[Block], checkout: Path) -> None:
    # They make a .venv/ of their own.
    (checkout / ".venv").unlink(missing_ok=True)
    lacking = [block.needs for block in chosen if block.needs and shutil.which(block.needs) is None]
    run(chosen, checkout, ())
    if lacking:
        pytest.skip(f"the rest ran; needs {', '.join(lacking)} for one")


@pytest.mark.lab
@pytest.mark.patient
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root for labs")
@pytest.mark.parametrize("chosen", pages_with(lab=True))
def test_all_commands_of_a_page_run_with_a_lab(chosen: list[Block], checkout: Path) -> None:
    # Labs of this session are in a place of their own, and end with it, whatever happens.
    alone = 'mkdir -p /run/dmvpn-lab && mount -t tmpfs tmpfs /run/dmvpn-lab && bash "$1"'
    around = ("unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "--propagation", "private")
    run(chosen, checkout, (*around, "bash", "-c", alone))
