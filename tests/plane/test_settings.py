import copy
import json
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from dmvpn.errors import WrongInput
from dmvpn.plane import settings
from dmvpn.plane.settings import TunnelSettings

GOOD: dict[str, Any] = {
    "version": 1,
    "network": "acme",
    "bind_device": "ipsec0",
    "local": "100.64.0.11",
    "control": "/run/dmvpn/acme/gre.sock",
    "tunnels": [
        {"device": "acme-blue", "key": 1, "ttl": 64, "tos": "inherit"},
        {"device": "acme-green", "key": None, "ttl": 255, "tos": 184},
    ],
}


def test_a_rendered_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "gre.json"
    file.write_text(json.dumps(GOOD))
    read = settings.read(file)
    assert (read.local, read.bind_device) == (IPv4Address("100.64.0.11"), "ipsec0")
    assert read.tunnels == (TunnelSettings("acme-blue", 1, 64, None), TunnelSettings("acme-green", None, 255, 184))


def changed(*path: str | int, to: object) -> str:
    tree: Any = copy.deepcopy(GOOD)
    at = tree
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = to
    return json.dumps(tree)


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        pytest.param("{", "", "is not JSON", id="no JSON"),
        pytest.param("[]", ": version", "is not 1", id="no object"),
        pytest.param(changed("version", to=2), ": version", "is not 1", id="another version"),
        pytest.param(changed("network", to=""), ": network", "is missing or not a text", id="no network"),
        pytest.param(changed("bind_device", to="a/b"), ": bind_device", "'a/b' is not the name", id="no device name"),
        pytest.param(changed("bind_device", to="x" * 16), ": bind_device", "is not the name", id="a name too long"),
        pytest.param(changed("local", to="::1"), ": local", "'::1' is not an IPv4 address", id="IPv6"),
        pytest.param(changed("control", to=None), ": control", "is missing", id="no control socket"),
        pytest.param(changed("tunnels", to=[]), ": tunnels", "is not a list of at least one", id="no tunnels"),
        pytest.param(changed("tunnels", 0, to=1), ": tunnels[0]", "is not an object", id="a number for a tunnel"),
        pytest.param(changed("tunnels", 0, "key", to=-1), ": tunnels[0].key", "0 to 4294967295", id="negative key"),
        pytest.param(changed("tunnels", 0, "key", to=True), ": tunnels[0].key", "True is not", id="a boolean key"),
        pytest.param(changed("tunnels", 1, "ttl", to=0), ": tunnels[1].ttl", "1 to 255", id="ttl 0"),
        pytest.param(changed("tunnels", 1, "tos", to="copy"), ": tunnels[1].tos", "'copy' is not", id="tos in words"),
        pytest.param(changed("tunnels", 1, "key", to=1), ": tunnels", "has one key twice", id="one key twice"),
        pytest.param(
            changed("tunnels", 1, "device", to="acme-blue"), ": tunnels", "has one device twice", id="one device twice"
        ),
    ],
)
def test_a_wrong_file_says_where(text: str, where: str, what: str, tmp_path: Path) -> None:
    file = tmp_path / "gre.json"
    file.write_text(text)
    with pytest.raises(WrongInput) as caught:
        settings.read(file)
    assert caught.value.where == f"{file}{where}"
    assert what in caught.value.what


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match=r"No such file or directory; run `dmvpn apply`"):
        settings.read(tmp_path / "gre.json")
