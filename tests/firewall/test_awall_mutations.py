"""Policy files bent at random and value by value: problems with a place in the file, or rules; nothing else ever."""

import copy
import json
import random
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dmvpn.errors import WrongInput
from dmvpn.firewall import nft
from dmvpn.firewall.assembly import assemble
from dmvpn.firewall.awall.translation import Source, translate

HERE = Path(__file__).parent
MENDED = {path.name: path.read_text() for path in sorted((HERE / "mended" / "optional").iterdir())}
WIDE = {
    "variable": {"a": ["eth0"], "n": 3},
    "zone": {
        "E": {"iface": "$a"},
        "B": {"iface": ["eth1", "ppp+"], "addr": ["10.0.0.0/8", "fd::/8"], "ipsec": False},
    },
    "service": {"s": [{"proto": "tcp", "port": ["80-90", "$n"]}, {"proto": "icmp", "type": 8, "reply-type": 0}]},
    "log": {"quiet": {"mode": "none"}, "group": {"mode": "nflog", "group": 5, "range": 64, "limit": {"count": 4}}},
    "limit": {"shared": {"inet": 24, "inet6": 64}},
    "ipset": {"known": {"type": "hash:net", "family": "inet", "size": 64, "timeout": False}},
    "filter": [
        {"in": "E", "out": "_fw", "service": ["s", "ssh"], "conn-limit": {"count": 3, "interval": 60, "src-mask": 24}},
        {
            "in": ["E", "B"],
            "service": "ping",
            "flow-limit": {"count": 10, "name": "shared", "addr": "dest", "log": "quiet"},
        },
        {"in": "E", "service": "http", "dnat": {"addr": "10.0.0.9", "port": 8080}, "log": "group"},
        {"out": "B", "dest": "192.0.2.0/24", "action": "reject", "log": False, "ipsec": "out"},
        {"in": "E", "ipset": [{"name": "known", "args": ["in"]}], "src": ["192.0.2.1"]},
    ],
    "policy": [{"in": "E", "action": "drop"}, {"in": "_fw", "action": "accept"}],
    "snat": [{"out": "E", "to-addr": ["192.0.2.1-192.0.2.9"], "to-port": "1024-2048", "service": "s2"}, {"out": "E"}],
    "dnat": [{"in": "E", "service": "ssh", "to-addr": "10.0.0.7", "action": "include", "family": ["inet"]}],
    "mark": [{"in": "B", "mark": 7}],
    "route-track": [{"out": "E", "mark": 1}],
    "clamp-mss": [{"out": "E", "mss": 1400}],
}
WIDE["service"]["s2"] = {"proto": "udp"}  # type: ignore[index,call-overload]
OTHERS: tuple[object, ...] = (
    [],
    {},
    "",
    "x",
    "$a",
    "$none",
    -1,
    0,
    70000,
    1.5,
    True,
    None,
    [[]],
    {"x": {}},
    ["E", "E"],
)
PLACE = re.compile(r"[\w./-]+:[0-9]+:[0-9]+")


def examine(sources: list[Source]) -> None:
    try:
        translated = translate(sources)
    except WrongInput as wrong:
        lost = [line for line in str(wrong).splitlines() if not PLACE.match(line)]
        if lost:
            pytest.fail(f"no place: {lost}")
        return
    text = "\n".join(nft.lines(assemble(translated.policy)))
    assert text.isascii()
    assert '"' not in re.sub(r'"[^"\n]*"', "", text), "a value closes a string"


def keys(values: Any, here: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    pairs = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for part, value in pairs:
        yield (*here, part)
        yield from keys(value, (*here, part))


def test_the_wide_policy_is_a_good_one() -> None:
    policy = translate([Source("w.json", json.dumps(WIDE, indent=1))]).policy
    assert len(policy.rules) == 6  # dnat's filter is one for each family
    examine([Source("w.json", json.dumps(WIDE))])


@pytest.mark.kernel
def test_nft_takes_all_of_it(tmp_path: Path) -> None:
    lines = nft.lines(assemble(translate([Source("w.json", json.dumps(WIDE, indent=1))]).policy))
    rules = tmp_path / "rules.nft"
    rules.write_text("table inet wide {\n" + "\n".join(lines) + "\n}\n")
    subprocess.run(("unshare", "--net", "nft", "--file", str(rules)), check=True, timeout=20)


@pytest.mark.parametrize("other", OTHERS, ids=str)
def test_a_value_replaced_or_removed_is_a_problem_or_rules(other: object) -> None:
    for key in keys(WIDE):
        bent: Any = copy.deepcopy(WIDE)
        here = bent
        for part in key[:-1]:
            here = here[part]
        if other == -1:
            del here[key[-1]]
        else:
            here[key[-1]] = copy.deepcopy(other)
        examine([Source("w.json", json.dumps(bent))])


PIECES = [*"\"'{}[]:,=$\\\n\t0-#&*", "true", "\u201c", "\x00", "\ud7ff", "/*"]
LARGE = ("[" * 100_000, '{"a":' * 100_000, '"' + "\\u0041" * 100_000, "1" * 500_000, "[1," * 150_000)


@pytest.mark.parametrize("seed", range(12))
def test_text_bent_at_random_is_a_problem_or_rules(seed: int) -> None:
    chance = random.Random(seed)
    texts = {**MENDED, "wide.json": json.dumps(WIDE, indent=1)}
    for _ in range(15):
        name = chance.choice(sorted(texts))
        text = texts[name]
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(text) + 1)
            cut = chance.choice((0, 1, 1, 7, 60))
            text = text[:at] + chance.choice(("", *PIECES, text[at : at + cut] * 2)) + text[at + cut :]
        named = name if chance.random() < 0.7 else name.replace(".json", ".yaml")
        others = [Source(one, whole) for one, whole in texts.items() if one != name]
        examine([*others, Source(named, text)])


@pytest.mark.parametrize("text", LARGE, ids=lambda text: text[:5])
@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_large_and_deep_texts_are_told(text: str, suffix: str) -> None:
    examine([Source(f"p.{suffix}", text)])
