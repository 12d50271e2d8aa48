"""daemon.json: what is rendered is what is read, and what is not of its format is refused in one line."""

import dataclasses
import json
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from dmvpn.daemon import settings
from dmvpn.errors import WrongInput
from dmvpn.network.compile import compile_plan, routers
from dmvpn.network.loading import load as load_network
from dmvpn.render import daemon
from dmvpn.render.layout import Layout

EXAMPLE = Path(__file__).parents[2] / "examples" / "demo.yaml"
NETWORK = load_network(EXAMPLE.read_text(), EXAMPLE.name)


def rendered(router: str) -> dict[str, Any]:
    (file,) = daemon.render(compile_plan(NETWORK, router, secrets={}), Layout(NETWORK.network)).files
    decoded: dict[str, Any] = json.loads(file.text)
    return decoded


def spelt(value: Any) -> Any:
    """A value read, spelt as it was written."""
    if dataclasses.is_dataclass(value):
        return {field.name: spelt(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [spelt(one) for one in value]
    if isinstance(value, bytes):
        return value.hex()
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


@pytest.mark.parametrize("router", routers(NETWORK))
def test_nothing_is_lost_between_the_renderer_and_the_daemon(router: str) -> None:
    written = rendered(router)
    parsed = spelt(settings.parse(written))
    # Without shared gateways there is no section of them.
    read = {key: value for key, value in parsed.items() if key != "vrrp" or value is not None}
    registry = {key: read.pop(key) for key in written["registry"]}
    assert {**read, "registry": registry} == {key: value for key, value in written.items() if key != "version"}


def test_addresses_are_addresses_and_a_secret_is_octets() -> None:
    written = rendered("hel1")
    written["clouds"][0]["nhrp"]["authentication"] = "73656372"
    written["uplinks"][0]["public"] = None
    read = settings.parse(written)
    assert read.transport == ip_address("100.64.0.11")
    assert read.serves == (ip_network("10.1.11.0/24"),)
    assert read.ports == ("eth0", "eth1")
    assert read.paths.pki == Path("/etc/dmvpn/acme/pki")
    assert read.clouds[0].nhrp.authentication == b"secr"
    assert read.clouds[0].hubs[0].nbma == ip_address("100.64.0.1")
    assert read.uplinks[0].public is None


def test_settings_cannot_be_changed_by_whom_they_are_handed_to() -> None:
    read = settings.parse(rendered("hel1"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        read.network = "other"  # type: ignore[misc]


Change = Callable[[dict[str, Any]], object]


def _set(key: str, value: object) -> Change:
    return lambda data: data.__setitem__(key, value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(_set("version", 2), "version 2", id="a format of the future"),
        pytest.param(lambda data: data.pop("version"), "'version'", id="no format"),
        pytest.param(lambda data: data.pop("clouds"), "'clouds'", id="a section is missing"),
        pytest.param(lambda data: data["paths"].pop("vici"), "'vici'", id="a path is missing"),
        pytest.param(lambda data: data["ike"].pop("rekey_s"), "'rekey_s'", id="an IKE value is missing"),
        pytest.param(lambda data: data["clouds"][0]["hubs"][0].pop("nbma"), "'nbma'", id="a hub without an address"),
        pytest.param(_set("transport", "100.64.0.256"), "100.64.0.256", id="no address"),
        pytest.param(_set("transport_range", "100.64.0.1/16"), "host bits", id="no prefix"),
        pytest.param(_set("prefixes", "10.0.0.0/8"), "1", id="text where a list belongs"),
        pytest.param(_set("clouds", None), "NoneType", id="null where a list belongs"),
        pytest.param(_set("registry", []), "list", id="a list where a mapping belongs"),
        pytest.param(
            lambda data: data["clouds"][0]["nhrp"].__setitem__("authentication", "xyz"), "hexadecimal", id="no hex"
        ),
    ],
)
def test_another_shape_is_refused_with_what_to_do(tmp_path: Path, change: Change, says: str) -> None:
    data = rendered("hel1")
    change(data)
    path = tmp_path / "daemon.json"
    path.write_text(json.dumps(data))
    with pytest.raises(WrongInput) as caught:
        settings.load(path)
    assert caught.value.where == str(path)
    assert says in caught.value.what
    assert caught.value.fix == "run `dmvpn apply`"


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b'{"version": 1', id="cut short"),
        pytest.param(b"\xff\xfe\x00", id="no text"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"null", id="null"),
        pytest.param(b" " * (settings.SIZE_LIMIT_OCTETS + 1), id="too large"),
    ],
)
def test_what_is_no_daemon_json_is_a_fault(tmp_path: Path, octets: bytes) -> None:
    path = tmp_path / "daemon.json"
    path.write_bytes(octets)
    with pytest.raises(WrongInput, match=str(path)):
        settings.load(path)


def test_a_missing_file_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match="No such file or directory; run `dmvpn apply`"):
        settings.load(tmp_path / "daemon.json")


def test_a_file_that_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "daemon.json"
    path.write_text(json.dumps(rendered("hq1")))
    assert settings.load(path) == settings.parse(rendered("hq1"))
