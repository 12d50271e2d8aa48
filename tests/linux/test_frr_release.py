"""What the machine's own FRR has: Debian 12's is 8.4. What a newer one lacks is tried where that is: test_lab_frr10."""

import sys

import pytest

from dmvpn.errors import Fault
from dmvpn.linux import frr_release, process

BFDD = [str(frr_release.DAEMONS / "bfdd"), "--bfdctl", "/run/dmvpn/acme/frr/bfdd.sock", "-P", "0"]
RUN = (sys.executable, "-m", "dmvpn.linux.frr_release")

pytestmark = pytest.mark.skipif(
    not frr_release.DAEMONS.exists() or frr_release.release() >= frr_release.OSPF6_SINCE, reason="this is no FRR 8"
)


def test_a_bfdd_with_a_control_socket_is_given_its_own() -> None:
    assert frr_release.without_gone(BFDD) == BFDD


def test_it_is_told_what_is_missing_and_what_is_not() -> None:
    assert frr_release.lacking("rip") == frr_release.lacking("ripng") == ""
    assert "came with FRR 10" in frr_release.lacking("ospf6")
    with pytest.raises(Fault, match="nothing that is asked of FRR"):
        frr_release.lacking("isis")


def test_the_checker_ends_with_1_and_names_the_release() -> None:
    found = process.run((*RUN, "check", "rip", "ospf6"), timeout_s=30, accept=(1,))
    major, minor = frr_release.release()
    assert found.stderr.decode().startswith(f"this is FRR {major}.{minor}: its ospf6d")
    assert process.run((*RUN, "check", "rip"), timeout_s=30).stderr == b""


def test_it_becomes_the_program() -> None:
    assert process.run((*RUN, "run", BFDD[0], "--version"), timeout_s=30).text.startswith("bfdd version")


@pytest.mark.parametrize("argv", [(), ("run",), ("walk", "bfdd")])
def test_other_words_are_refused(argv: tuple[str, ...]) -> None:
    assert process.run((*RUN, *argv), timeout_s=30, accept=(2,)).stderr.startswith(b"usage:")
