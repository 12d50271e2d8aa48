"""OpenVPN takes our papers: its OpenSSL checks the RFC 3779 blocks of the whole chain. Two of them in a namespace."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from renewal_cases import CLAIMS, RENEWER, ROOT, renewed, router

from dmvpn.identity import authority
from dmvpn.linux import namespaces
from dmvpn.linux.pace import patience

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(shutil.which("openvpn") is None, reason="no openvpn (package openvpn)"),
]
DONE = "Initialization Sequence Completed"
LIMIT_S = 30.0


def _outside(monkeypatch: pytest.MonkeyPatch) -> tuple[bytes, bytes]:
    monkeypatch.setattr(authority, "_check", lambda *_: None)
    return router(replace(CLAIMS, transport=ip_address("100.99.0.1")))


@contextmanager
def peer(directory: Path, pair: tuple[bytes, bytes], *role: str) -> Iterator[Path]:
    """One end; what it says is in the file that is given."""
    directory.mkdir()
    for name, content in (("ca", ROOT[0]), ("pem", pair[0]), ("extra", RENEWER[0])):
        (directory / name).write_bytes(content)
    (directory / "key").touch(mode=0o600)
    (directory / "key").write_bytes(pair[1])
    argv = (
        *("openvpn", "--dev", "null", "--ifconfig-noexec", "--proto", "udp", "--verb", "3", "--ca", "ca"),
        *("--cert", "pem", "--key", "key", "--extra-certs", "extra", "--remote-cert-eku", "1.3.6.1.5.5.7.3.17", *role),
    )
    with (directory / "log").open("wb") as log:
        running = subprocess.Popen(argv, stdout=log, stderr=log, cwd=directory)
        try:
            yield directory / "log"
        finally:
            running.kill()
            running.wait()


def handshake(tmp_path: Path, server: tuple[bytes, bytes], client: tuple[bytes, bytes]) -> str:
    """What both said, once both are done or one has refused."""
    with ExitStack() as stack:
        ends = (
            ("server", server, ("--tls-server", "--dh", "none", "--local", "127.0.0.1", "--port", "11940")),
            ("client", client, ("--tls-client", "--remote", "127.0.0.1", "11940", "--nobind")),
        )
        logs = [stack.enter_context(peer(tmp_path / name, pair, *role)) for name, pair, role in ends]
        deadline = time.monotonic() + patience(LIMIT_S)
        while time.monotonic() < deadline:
            said = [log.read_text(errors="replace") for log in logs]
            if all(DONE in text for text in said) or any("VERIFY ERROR" in text for text in said):
                return "".join(said)
            time.sleep(0.05)
    raise AssertionError("".join(said))


@pytest.fixture
def loopback() -> Iterator[None]:
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        namespaces.unshare(namespaces.CLONE_NEWNET)
        subprocess.run(("ip", "link", "set", "lo", "up"), check=True, timeout=10)
        yield
    finally:
        namespaces.join(Path(f"/proc/self/fd/{home}"))
        os.close(home)


def test_openvpn_takes_papers_of_the_root_and_renewed_ones(loopback: None, tmp_path: Path) -> None:
    other = replace(CLAIMS, router="lyo1", transport=ip_address("100.64.0.13"))
    said = handshake(tmp_path, router(other), renewed(*router()))
    assert said.count(DONE) == 2
    assert "VERIFY OK: depth=2, CN=acme DMVPN CA" in said


def test_openvpn_refuses_a_block_outside_the_authoritys(
    loopback: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = handshake(tmp_path, router(), _outside(monkeypatch))
    assert "RFC 3779 resource not subset of parent's resources" in said
    assert DONE not in said
