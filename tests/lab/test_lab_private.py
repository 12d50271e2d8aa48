"""What a node sees of the file system, beside what the host has."""

from pathlib import Path

import pytest
from lab_plans import DEMO, demo

from dmvpn.errors import Fault
from dmvpn.lab import lifecycle, private

pytestmark = [pytest.mark.kernel, pytest.mark.lab]


def test_programs_that_were_unpacked_beside_the_hosts_are_the_labs_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "unpacked/usr/bin/only-in-the-lab"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho unpacked beside $(command -v ip)\n")
    program.chmod(0o755)
    monkeypatch.setattr(private, "UNPACKED", tmp_path / "unpacked")
    network, plans = demo()
    with lifecycle.held(network.lab, plans, name="private", file=str(DEMO), base=tmp_path / "labs") as lab:
        said = lab.node("hq1").run(("/usr/bin/only-in-the-lab",)).text
        assert said.startswith("unpacked beside /")
        assert private.find("only-in-the-lab") == "/usr/bin/only-in-the-lab"
    assert not Path("/usr/bin/only-in-the-lab").exists()
    with pytest.raises(Fault, match="no such program"):
        private.find("nowhere-at-all")
