"""The walls of the house: who may import whom, how long a module may be, which names say nothing, who prints."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "dmvpn"
LINES_LIMIT = 400

# Rooms a room may import. Every room may import errors and itself. A dotted entry opens that one module of a room.
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "errors": (),
    "nhrp": (),
    "uplink": (),
    "firewall": (),
    "network": ("firewall",),
    "render": ("network.plan", "firewall"),
    "identity": (),
    "linux": (),
    "plane": ("linux",),
    "commit": ("render.result", "linux"),
    "daemon": ("nhrp", "uplink", "identity", "linux"),
    "doctor": ("network.plan", "linux", "daemon.control"),
    "operations": (
        "nhrp",
        "network",
        "firewall",
        "uplink",
        "render",
        "identity",
        "linux",
        "plane",
        "commit",
        "daemon",
        "doctor",
        "lab",
    ),
    "lab": ("network", "linux"),
    "cli": ("operations", "daemon.wire"),
    "web": ("operations",),
}
PURE = ("nhrp", "uplink", "firewall", "network", "render")
# Libraries a pure room may use beside the standard library.
PURE_LIBRARIES = {"firewall": {"ruamel"}, "network": {"pydantic", "pydantic_core", "ruamel"}}
# Doors to the world that a pure room has none of.
IMPURE = {"asyncio", "logging", "os", "socket", "subprocess", "time", "threading", "select", "tempfile", "shutil"}
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc", "base", "manager"}


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def room_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).parts
    return parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            # `from dmvpn.network import plan` imports dmvpn.network.plan.
            yield from (f"{node.module}.{alias.name}" for alias in node.names if node.module.startswith("dmvpn"))


def every(path: Path) -> str:
    return str(path.relative_to(SOURCE))


@pytest.mark.parametrize("path", modules(), ids=every)
def test_a_room_imports_only_what_the_table_allows(path: Path) -> None:
    room = room_of(path)
    if room == "__init__":
        return
    allowed = (room, "errors", *MAY_IMPORT[room])
    for name in imports(path):
        if not name.startswith("dmvpn."):
            continue
        inner = name.removeprefix("dmvpn.")
        # A package named on the way to a module that is allowed is no breach by itself.
        fits = any(inner == one or inner.startswith(f"{one}.") or one.startswith(f"{inner}.") for one in allowed)
        assert fits, f"{room} imports {name}"


@pytest.mark.parametrize("path", [path for path in modules() if room_of(path) in PURE], ids=every)
def test_a_pure_room_has_no_door_to_the_world(path: Path) -> None:
    libraries = PURE_LIBRARIES.get(room_of(path), set())
    for name in imports(path):
        top = name.partition(".")[0]
        assert top not in IMPURE, f"{name} in a pure room"
        if top == "random":
            # A Random that is handed in is data; the module's own state is not.
            assert name == "random"
        assert top in {"dmvpn", *libraries} or top in sys.stdlib_module_names, f"{name} in a pure room"


@pytest.mark.parametrize("path", [*modules(), *sorted((ROOT / "tests").rglob("*.py"))], ids=lambda path: path.name)
def test_a_module_has_at_most_400_lines(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= LINES_LIMIT, f"{lines} lines: which rooms are in it?"


@pytest.mark.parametrize("path", modules(), ids=every)
def test_a_module_is_named_after_what_is_in_it(path: Path) -> None:
    assert path.stem.rstrip("s") not in VAGUE
    assert path.stem not in VAGUE


@pytest.mark.parametrize("path", modules(), ids=every)
def test_only_the_terminal_prints(path: Path) -> None:
    if every(path) == "cli/text.py":
        return
    calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    assert not [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]


@pytest.mark.parametrize("path", modules(), ids=every)
def test_nobody_catches_everything_or_calls_a_class_a_manager(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"line {node.lineno}: bare except"
        if isinstance(node, ast.ClassDef):
            assert not node.name.endswith("Manager"), node.name


def test_no_two_test_modules_have_one_name() -> None:
    # pytest imports them by their bare names: the second would be taken for the first.
    names = [path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py"]
    assert sorted(names) == sorted(set(names))
