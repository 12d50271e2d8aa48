"""Host name, time zone, resolvers and keys: set, set again, and put back as they were."""

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path

import pytest

from dmvpn.errors import Fault
from dmvpn.linux import host_state
from dmvpn.linux.host_state import Wanted

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl anna@example.net"
ALL = {
    "hostname": "par1",
    "timezone": "Europe/Paris",
    "resolvers": ["192.0.2.53", "2001:db8::53"],
    "admins": [{"account": "root", "key": KEY}],
}


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A machine's tree, as Debian has it."""
    root = tmp_path / "machine"
    for path, text in {
        "etc/hostname": "debian\n",
        "etc/timezone": "Etc/UTC\n",
        "etc/resolv.conf": "nameserver 127.0.0.1\n",
        "usr/share/zoneinfo/Europe/Paris": "TZif",
        "usr/share/zoneinfo/Etc/UTC": "TZif",
        "root/.ssh/authorized_keys": "ssh-rsa AAAA old@example.net\n",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    (root / "etc/localtime").symlink_to("/usr/share/zoneinfo/Etc/UTC")
    (root / "root/.ssh/authorized_keys").chmod(0o600)
    return root


def wanted(machine: Path, **settings: object) -> Wanted:
    nothing = {"hostname": None, "timezone": None, "resolvers": [], "admins": []}
    path = machine.parent / "host.json"
    path.write_text(json.dumps({"network": "acme", "state": "/var/lib/dmvpn/acme/host.json", **nothing, **settings}))
    return Wanted.load(path, machine)


def digest(machine: Path) -> dict[str, str]:
    found = {}
    for parent, _, names in os.walk(machine):
        for path in (Path(parent) / name for name in names):
            content = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
            found[str(path)] = f"{path.lstat().st_mode:o} {hashlib.sha256(content).hexdigest()}"
    return found


def test_everything_is_set_and_put_back_to_the_octet(machine: Path) -> None:
    before = digest(machine)
    settings = wanted(machine, **ALL)
    host_state.apply(settings)
    assert (machine / "etc/hostname").read_text() == "par1\n"
    assert (machine / "etc/timezone").read_text() == "Europe/Paris\n"
    assert (machine / "etc/localtime").readlink() == Path("/usr/share/zoneinfo/Europe/Paris")
    assert (machine / "etc/resolv.conf").read_text() == "nameserver 192.0.2.53\nnameserver 2001:db8::53\n"
    keys = (machine / "root/.ssh/authorized_keys").read_text()
    assert keys == f"ssh-rsa AAAA old@example.net\n# dmvpn acme: begin\n{KEY}\n# dmvpn acme: end\n"
    set_once = digest(machine)
    host_state.apply(settings)
    assert digest(machine) == set_once
    host_state.remove(settings)
    assert digest(machine) == before


@pytest.mark.parametrize("setting", ALL)
def test_each_setting_stands_alone_and_goes_when_the_file_drops_it(machine: Path, setting: str) -> None:
    before = digest(machine)
    host_state.apply(wanted(machine, **{setting: ALL[setting]}))
    changed = {path for path, one in digest(machine).items() if before.get(path) != one}
    assert changed
    host_state.apply(wanted(machine))
    after = digest(machine)
    after.pop(str(machine / "var/lib/dmvpn/acme/host.json"))
    assert after == before


def test_a_link_that_another_program_made_comes_back(machine: Path) -> None:
    (machine / "etc/resolv.conf").unlink()
    (machine / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    before = digest(machine)
    settings = wanted(machine, resolvers=["192.0.2.53"])
    host_state.apply(settings)
    assert not (machine / "etc/resolv.conf").is_symlink()
    host_state.remove(settings)
    assert digest(machine) == before


def test_what_was_not_there_is_not_there_afterwards(machine: Path) -> None:
    (machine / "etc/hostname").unlink()
    (machine / "root/.ssh/authorized_keys").unlink()
    before = digest(machine)
    settings = wanted(machine, hostname="par1", admins=ALL["admins"])
    host_state.apply(settings)
    assert (machine / "root/.ssh/authorized_keys").stat().st_mode & 0o777 == 0o600
    host_state.remove(settings)
    assert digest(machine) == before


def test_a_hand_that_changed_it_meanwhile_has_the_last_word(machine: Path) -> None:
    settings = wanted(machine, **ALL)
    host_state.apply(settings)
    (machine / "etc/resolv.conf").write_text("nameserver 203.0.113.1\n")
    with (machine / "root/.ssh/authorized_keys").open("a") as keys:
        keys.write("ssh-rsa AAAA new@example.net\n")
    host_state.remove(settings)
    assert (machine / "etc/resolv.conf").read_text() == "nameserver 203.0.113.1\n"
    assert (machine / "root/.ssh/authorized_keys").read_text() == (
        "ssh-rsa AAAA old@example.net\nssh-rsa AAAA new@example.net\n"
    )
    assert (machine / "etc/hostname").read_text() == "debian\n"


@pytest.mark.parametrize("lost", ["begin", "end"])
def test_keys_of_others_stay_where_one_of_our_marks_is_lost(machine: Path, lost: str) -> None:
    settings = wanted(machine, **ALL)
    host_state.apply(settings)
    path = machine / "root/.ssh/authorized_keys"
    left = path.read_text().replace(f"# dmvpn acme: {lost}\n", "") + "ssh-rsa AAAA new@example.net\n"
    path.write_text(left)
    for act in (host_state.apply, host_state.remove):
        with pytest.raises(Fault, match="put the missing one back around our keys"):
            act(settings)
    assert path.read_text() == left


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        pytest.param(
            {"timezone": "Europe/Atlantis"},
            "system.timezone: this machine knows no time zone Europe/Atlantis; install tzdata",
            id="no such zone",
        ),
        pytest.param(
            {"admins": [{"account": "nobody-here", "key": KEY}]},
            "system.admins: this machine has no account nobody-here; make it: adduser nobody-here",
            id="no such account",
        ),
    ],
)
def test_what_cannot_be_set_is_told_before_anything_is(machine: Path, settings: dict[str, object], fault: str) -> None:
    before = digest(machine)
    with pytest.raises(Fault) as caught:
        host_state.apply(wanted(machine, **{**ALL, **settings}))
    assert str(caught.value) == fault
    assert digest(machine) == before


def test_a_lab_leaves_the_home_directories_of_its_host_alone(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMVPN_LAB", "demo")
    host_state.apply(wanted(machine, **ALL))
    assert (machine / "root/.ssh/authorized_keys").read_text() == "ssh-rsa AAAA old@example.net\n"
    assert (machine / "etc/hostname").read_text() == "par1\n"


def test_it_dies_between_any_two_writes_and_still_knows_what_was_there(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = digest(machine)
    settings = wanted(machine, **ALL)
    real, calls = host_state.files.write, 0

    for dies_at in range(1, 12):
        calls = 0

        def write(path: Path, content: str, *, mode: int = 0o644, dies_at: int = dies_at) -> None:
            nonlocal calls
            calls += 1
            if calls == dies_at:
                raise Fault("disk", "is full")
            real(path, content, mode=mode)

        with monkeypatch.context() as patch:
            patch.setattr(host_state.files, "write", write)
            with suppress(Fault):
                host_state.apply(settings)
        host_state.remove(settings)
        assert digest(machine) == before, dies_at
