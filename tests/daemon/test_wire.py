"""Dataclasses as JSON values."""

import json
from dataclasses import dataclass
from enum import Enum, StrEnum
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import PurePosixPath
from typing import Any

import pytest

from dmvpn.daemon.control import State
from dmvpn.daemon.wire import to_wire


class Colour(StrEnum):
    RED = "red"


class Number(Enum):
    ONE = 1


@dataclass(frozen=True, slots=True)
class Inner:
    address: Any


@dataclass(frozen=True, slots=True)
class Outer:
    rows: tuple[Inner, ...]
    state: State


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        pytest.param("text", "text", id="text"),
        pytest.param(3, 3, id="whole number"),
        pytest.param(0.25, 0.25, id="fraction"),
        pytest.param(True, True, id="truth"),
        pytest.param(None, None, id="nothing"),
        pytest.param(Colour.RED, "red", id="word of a list"),
        pytest.param(Number.ONE, 1, id="number of a list"),
        pytest.param(ip_address("10.0.0.1"), "10.0.0.1", id="IPv4 address"),
        pytest.param(ip_address("fd00::1"), "fd00::1", id="IPv6 address"),
        pytest.param(ip_network("10.0.0.0/8"), "10.0.0.0/8", id="IPv4 prefix"),
        pytest.param(ip_network("fd00::/64"), "fd00::/64", id="IPv6 prefix"),
        pytest.param(ip_interface("10.0.0.1/8"), "10.0.0.1/8", id="interface address"),
        pytest.param(PurePosixPath("a/b"), "a/b", id="path"),
        pytest.param((1, "a"), [1, "a"], id="tuple"),
        pytest.param([Colour.RED], ["red"], id="list"),
        pytest.param(frozenset({1}), [1], id="set"),
        pytest.param({ip_address("10.0.0.1"): 2, 3: ()}, {"10.0.0.1": 2, "3": []}, id="mapping with other keys"),
        pytest.param(
            Outer((Inner(ip_address("10.0.0.1")),), State.VIA_HUB),
            {"rows": [{"address": "10.0.0.1"}], "state": "via hub"},
            id="dataclass in dataclass",
        ),
    ],
)
def test_a_value_as_json(value: object, wire: object) -> None:
    assert to_wire(value) == wire
    assert json.loads(json.dumps(to_wire(value))) == wire


@pytest.mark.parametrize("value", [b"octets", object(), range(3), {"deep": [b""]}], ids=lambda one: type(one).__name__)
def test_what_has_no_form_is_refused_by_its_type(value: object) -> None:
    with pytest.raises(TypeError, match="has no form on the wire"):
        to_wire(value)
