"""What the rendered units touch, against the AppArmor profiles that Debian's packages bring. apparmor.d(5).

The profiles are read, not loaded: nothing here runs under an enforced one.
"""

import re
from pathlib import Path

import pytest
from render_trees import example_plan

from dmvpn.network.plan import Plan
from dmvpn.render.engines import render_all
from dmvpn.render.result import Rendered, Unit
from dmvpn.render.strongswan import CHARON, SWANCTL, SWANCTL_INSIDE, VICI_INSIDE

PROFILES = Path("/etc/apparmor.d")
VARIABLES = {"@{PROC}": "/proc", "@{pid}": "[0-9]+"}
# abstractions/nameservice has it by way of nis. The package apparmor brings that file, and need not be here.
BY_ABSTRACTION = {"<abstractions/nameservice>": {"net_bind_service"}}


class Profile:
    """The path and capability rules of one file in /etc/apparmor.d, without its abstractions' paths."""

    def __init__(self, name: str) -> None:
        path = PROFILES / name
        if not path.exists():
            pytest.skip(f"needs {path}, a file of the Debian package that has the program")
        self.capabilities: set[str] = set()
        self._rules: list[tuple[re.Pattern[str], str]] = []
        for line in path.read_text().splitlines():
            words = line.strip().rstrip(",").split()
            match words:
                case ["#include", what] if what in BY_ABSTRACTION:
                    self.capabilities |= BY_ABSTRACTION[what]
                case ["capability", *names]:
                    self.capabilities |= set(names)
                case [pattern, permissions] if pattern[0] in "/@" and line.rstrip().endswith(","):
                    self._rules.append((_regex(pattern), permissions))

    def allows(self, path: object, access: str) -> bool:
        """Each letter of `access`: r, w, m, or x for running it in whatever way."""
        given = "".join(permissions for pattern, permissions in self._rules if pattern.fullmatch(str(path)))
        return all(letter in given for letter in access)


def _regex(pattern: str) -> re.Pattern[str]:
    for variable, text in VARIABLES.items():
        pattern = pattern.replace(variable, text)
    out, depth = "", 0
    for piece in re.findall(r"\*\*|\*|\{|\}|,|\[[^]]*\]\+?|[^*{},\[]+", pattern):
        match piece:
            case "**":
                out += ".*"
            case "*":
                out += "[^/]*"
            case "{":
                out, depth = out + "(?:", depth + 1
            case "}":
                out, depth = out + ")", depth - 1
            case "," if depth:
                out += "|"
            case _:
                out += piece if piece.startswith("[") else re.escape(piece)
    return re.compile(out)


PLANS = [
    pytest.param(example_plan("demo", "hq1"), id="userspace plane"),
    pytest.param(example_plan("kernel", "hq1"), id="kernel plane"),
]


def _charon(plan: Plan) -> tuple[Unit, Rendered]:
    (part,) = (part for part in render_all(plan) if part.engine == "strongswan")
    (unit,) = part.units
    assert unit.argv == (CHARON,)
    return unit, part


def _paths(part: Rendered, name: str) -> set[str]:
    (text,) = (file.text for file in part.files if str(file.path) == name)
    settings = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    return set(re.findall(r"(?<![\w.])/(?:[\w.-]+/)*[\w.-]+", settings.replace("unix://", "")))


@pytest.mark.parametrize("plan", PLANS)
def test_charon_stays_within_debians_profile(plan: Plan) -> None:
    profile = Profile("usr.lib.ipsec.charon")
    unit, part = _charon(plan)
    assert {name.lower() for name in unit.needs.capabilities} <= profile.capabilities
    assert profile.allows(unit.argv[0], "rm")
    assert profile.allows("/usr/bin/dash", "x"), "its start script"
    assert unit.needs.changes_profile, "no_new_privs would keep dash and swanctl in charon's profile"
    assert all(profile.allows(device, "rw") for device in unit.needs.devices)
    assert profile.allows(VICI_INSIDE, "rw")
    assert profile.allows("/run/charon.pid", "rw")
    places = [place for _, place in unit.binds if not place.is_relative_to(SWANCTL_INSIDE)]
    assert [str(place) for place in places] == ["/etc/strongswan.conf", "/run"]
    assert profile.allows("/etc/strongswan.conf", "r")
    # Whatever else the file names is for the shell and swanctl, which have other profiles.
    named = {path for path in _paths(part, "strongswan.conf") if path.startswith(("/etc", "/run", "/usr", "/var"))}
    assert named <= {SWANCTL, str(VICI_INSIDE), str(SWANCTL_INSIDE / "swanctl.conf")}


@pytest.mark.parametrize("plan", PLANS)
def test_swanctl_stays_within_debians_profile(plan: Plan) -> None:
    profile = Profile("usr.sbin.swanctl")
    unit, part = _charon(plan)
    assert profile.allows("/etc/strongswan.conf", "r")
    assert profile.allows(VICI_INSIDE, "rw")
    named = {path for path in _paths(part, "swanctl.conf") if path.endswith((".pem", ".key", ".crl"))}
    assert len(named) >= 2
    keys = {str(SWANCTL_INSIDE / "private" / "router.key"), str(SWANCTL_INSIDE / "swanctl.conf")}
    for path in named | keys:
        assert profile.allows(path, "r"), path
    assert {source.name for source, place in unit.binds if place.is_relative_to(SWANCTL_INSIDE)} == {
        "swanctl",
        "pki",
        "swanctl.conf",
    }


@pytest.mark.parametrize(
    ("profile", "path", "access"),
    [
        pytest.param("usr.lib.ipsec.charon", "/etc/dmvpn/acme/current/strongswan.conf", "r", id="our own place"),
        pytest.param("usr.lib.ipsec.charon", "/run/dmvpn/acme/charon/charon.vici", "w", id="our own socket"),
        pytest.param("usr.lib.ipsec.charon", "/etc/strongswan.conf", "w", id="written"),
        pytest.param("usr.sbin.swanctl", "/etc/dmvpn/acme/pki/router.pem", "r", id="our own keys"),
        pytest.param("usr.sbin.swanctl", "/run/charon.viciX", "r", id="another socket"),
    ],
)
def test_the_reader_of_profiles_can_say_no(profile: str, path: str, access: str) -> None:
    assert not Profile(profile).allows(path, access)
