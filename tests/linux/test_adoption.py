"""What is noted of services of the host's own; that they stop and come back is tried under a real systemd."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dmvpn.errors import Fault
from dmvpn.linux import adoption, namespaces, systemd
from dmvpn.linux.adoption import Wanted, Was


def record(state: Path, network: str, **services: Was) -> Path:
    path = state / network / adoption.RECORD
    path.parent.mkdir(parents=True, exist_ok=True)
    adoption._keep(path, services)
    return path


def test_a_service_that_another_network_wants_out_of_the_way_too_stays_there_and_what_it_was_is_handed_on(
    tmp_path: Path,
) -> None:
    was, met = Was(active=True, masked=False), Was(active=False, masked=True)
    first, second = record(tmp_path, "acme", frr=was), record(tmp_path, "wiki", frr=met, bird=met)
    adoption.release(Wanted(first, ("frr",)))
    assert not first.exists()
    assert adoption.recorded(second) == {"frr": was, "bird": met}
    assert second.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["{", "[]", '{"frr": {}}', '{"frr": true}'])
def test_a_record_that_cannot_be_read_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / adoption.RECORD
    path.write_text(text)
    with pytest.raises(Fault, match="cannot be read; remove it; what it names stays masked"):
        adoption.recorded(path)


def test_a_unit_file_of_the_operators_own_is_not_masked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "UNITS", tmp_path)
    (tmp_path / "mine.service").write_text("[Service]\n")
    (tmp_path / "masked.service").symlink_to("/dev/null")
    (tmp_path / "alias.service").symlink_to(tmp_path / "mine.service")
    for name in ("frr", "masked"):
        adoption.refuse_unmaskable(name)
    for name in ("mine", "alias"):
        with pytest.raises(Fault, match=f"adopt: {name}: .*no mask fits; stop and disable it yourself"):
            adoption.refuse_unmaskable(name)


def test_in_a_lab_the_hosts_services_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "adoption.json"
    state = tmp_path / "acme" / adoption.RECORD
    path.write_text(json.dumps({"version": 1, "record": str(state), "services": ["frr"]}))
    argv = (sys.executable, "-m", "dmvpn.linux.adoption", "apply", str(path))
    done = subprocess.run(argv, env={**os.environ, namespaces.LAB_VARIABLE: "demo"}, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert list(tmp_path.iterdir()) == [path]
