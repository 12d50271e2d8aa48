"""Words that may stand in a rendered file, and the header every file begins with."""

import json
import re
from typing import Any

from dmvpn.errors import Fault

WORD = re.compile(r"[A-Za-z0-9._:/%@+-]+")


def word(value: object, where: str) -> str:
    """`value` as one word of a line-oriented configuration.

    The network file's checks allow nothing else; this is the second lock: no value may ever add a line, a quote, a
    brace or a comment to what an engine reads. Raises Fault naming `where`.
    """
    text = str(value)
    if not WORD.fullmatch(text):
        raise Fault(where, f"{text!r} cannot stand in a configuration file", "use letters, digits and . _ : / % @ + -")
    return text


def header(network: str, router: str, comment: str = "#") -> str:
    """First line of a file: who wrote it, so that nobody edits it by hand twice."""
    return f"{comment} {word(router, 'router')} of {word(network, 'network')}: written by dmvpn apply; edits are lost"


def as_json(document: dict[str, Any]) -> str:
    """One JSON document for a program of ours: indented, so that a diff of revisions shows one fact a line."""
    return json.dumps(document, indent=1, ensure_ascii=True) + "\n"
