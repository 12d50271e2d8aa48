"""docs/command-line.md: every verb with its arguments and options, made from the commands themselves."""

from collections.abc import Iterator
from typing import Any

import typer

HEAD = """\
# The command line

Made from the commands themselves: `dmvpn VERB --help` says the same. Exit status: 0 done; 1 failed; 2 the input is
wrong, or `plan` found something to change; 3 done, with warnings; 130 interrupted. A fault is one line on standard
error: where, what is so, what to do. `--json` prints what the table is made of.
"""
# Typer's commands are click's or its own copy of them, by its version: what both have is used here, and no more.
Command = Any


def reference(app: typer.Typer) -> str:
    """The whole page, in the order of the help."""
    lines = [HEAD]
    for name, command in commands(app):
        depth = len(name.split())
        if depth == 1:
            continue
        lines += [f"{'#' * depth} {name}", "", " ".join((command.help or "").split()), ""]
        if inner_of(command) is None:
            lines += ["```text", " ".join((name, *map(_usage, _in_order(command)))).rstrip(), "```", ""]
            rows = [_row(one) for one in command.params]
            lines += ["| | |", "|---|---|", *rows, ""] if rows else []
    return "\n".join(lines)


def commands(app: typer.Typer) -> Iterator[tuple[str, Command]]:
    """Every command and group, as it is typed."""
    yield from _below("dmvpn", typer.main.get_command(app))


def _below(name: str, command: Command) -> Iterator[tuple[str, Command]]:
    yield name, command
    for verb, inner in (inner_of(command) or {}).items():
        yield from _below(f"{name} {verb}", inner)


def inner_of(command: Command) -> dict[str, Command] | None:
    """The verbs of a group; None for what is none."""
    found: dict[str, Command] | None = getattr(command, "commands", None)
    return found


def _in_order(command: Command) -> list[Any]:
    """Options last, but first where all that stands behind the arguments is somebody else's command."""
    if command.context_settings.get("allow_interspersed_args", True):
        return list(command.params)
    return sorted(command.params, key=lambda one: one.param_type_name == "argument")


def _usage(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return _argument(parameter)
    return f"[{_option(parameter)}]"


def _argument(parameter: Any) -> str:
    name = (parameter.metavar or parameter.name.upper()) + ("..." if parameter.nargs == -1 else "")
    name = name.replace("......", "...")
    return name if parameter.required or name.startswith("[") else f"[{name}]"


def _option(parameter: Any) -> str:
    value = "" if parameter.is_flag else f" {parameter.metavar or parameter.name.upper()}"
    return "|".join(parameter.opts) + value


def _row(parameter: Any) -> str:
    name = _argument(parameter) if parameter.param_type_name == "argument" else _option(parameter)
    text = parameter.help or ""
    if parameter.default not in (None, False, "") and not callable(parameter.default):
        text += f" Without it: {parameter.default}."
    # A bar ends a table's cell, also inside backquotes.
    name = name.replace("|-", "`, `-").replace("|", "\\|")
    return f"| `{name}` | {text} |"
