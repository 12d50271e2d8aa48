"""Two routers' charons, each in a network namespace of its own, joined by a cable; certificates from one CA."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dmvpn.linux import namespaces
from dmvpn.linux.vici_client import PeerConnection

TEXTS = Path(__file__).with_name("ipsec")
LIMIT_S = 30


def run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True, timeout=LIMIT_S)


def wait_for(condition: Callable[[], bool], what: str, limit_s: float = LIMIT_S) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {limit_s:g} s for {what}"
        time.sleep(0.02)


@dataclass(frozen=True)
class Router:
    name: str
    underlay: str
    transport: str
    directory: Path

    @property
    def identity(self) -> str:
        return f"{self.name}.example.net"

    @property
    def vici(self) -> Path:
        return self.directory / "run" / "charon.vici"

    @property
    def swanctl_conf(self) -> Path:
        return self.directory / "swanctl.conf"

    @property
    def swanctl_dir(self) -> Path:
        return self.directory / "swanctl"

    def connection_to(self, peer: "Router") -> PeerConnection:
        return PeerConnection(
            name=f"p-{peer.name}",
            local_port=4500,
            remote_address=peer.underlay,
            remote_port=4500,
            remote_identity=None,
            certificate=self.swanctl_dir / "x509" / "router.pem",
            authority=self.swanctl_dir / "x509ca" / "ca.pem",
            local_ts=f"{self.transport}/32[gre]",
            remote_ts=f"{peer.transport}/32[gre]",
            ike_proposal="aes256gcm16-prfsha384-ecp384",
            esp_proposal="aes256gcm16-ecp384",
            rekey_s=3600,
            dpd_delay_s=2,
        )


def make_authority(directory: Path) -> tuple[Path, Path]:
    certificate, key = directory / "ca.pem", directory / "ca.key"
    run(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp384r1", "-nodes", "-days", "2",
        "-subj", "/CN=acme CA", "-keyout", str(key), "-out", str(certificate),
        "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        "-addext", "sbgp-ipAddrBlock=critical,IPv4:100.64.0.0/16",
    )  # fmt: skip
    return certificate, key


def make_router(router: Router, authority: tuple[Path, Path]) -> None:
    for kind in ("x509", "x509ca", "private"):
        (router.swanctl_dir / kind).mkdir(parents=True)
    (router.directory / "run").mkdir()
    request, extensions = router.directory / "request", router.directory / "extensions"
    extensions.write_text(
        f"subjectAltName=DNS:{router.identity},IP:192.0.2.1\n"
        f"sbgp-ipAddrBlock=critical,IPv4:{router.transport}/32\n"
        "keyUsage=critical,digitalSignature\n"
    )
    run(
        "openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp384r1", "-nodes",
        "-subj", f"/O=acme/CN={router.name}", "-keyout", str(router.swanctl_dir / "private" / "router.key"),
        "-out", str(request),
    )  # fmt: skip
    run(
        "openssl", "x509", "-req", "-in", str(request), "-CA", str(authority[0]), "-CAkey", str(authority[1]),
        "-days", "2", "-extfile", str(extensions), "-out", str(router.swanctl_dir / "x509" / "router.pem"),
    )  # fmt: skip
    (router.swanctl_dir / "x509ca" / "ca.pem").write_bytes(authority[0].read_bytes())
    text = (TEXTS / "swanctl.conf").read_text()
    router.swanctl_conf.write_text(text.replace("@IDENTITY@", router.identity).replace("@TRANSPORT@", router.transport))


@contextmanager
def other_namespace() -> Iterator[int]:
    """A network namespace that lives as long as this; yields the process that holds it."""
    holder = subprocess.Popen(("unshare", "--net", "cat"), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        here = Path("/proc/self/ns/net").readlink()
        wait_for(lambda: Path(f"/proc/{holder.pid}/ns/net").readlink() != here, "the second namespace")
        yield holder.pid
    finally:
        holder.kill()
        holder.communicate()


@contextmanager
def charon(router: Router, namespace: Path) -> Iterator[None]:
    log = (router.directory / "charon.log").open("wb")
    home = Path("/proc/self/ns/net")
    handle = os.open(home, os.O_RDONLY | os.O_CLOEXEC)
    namespaces.join(namespace)
    try:
        process = subprocess.Popen(
            (
                sys.executable,
                str(TEXTS / "start_charon.py"),
                str(router.directory / "run"),
                str(TEXTS / "strongswan.conf"),
            ),
            stderr=log,
            stdout=log,
        )
    finally:
        namespaces.join(Path(f"/proc/self/fd/{handle}"))
        os.close(handle)
    try:
        wait_for(lambda: router.vici.exists() or process.poll() is not None, f"charon of {router.name}")
        yield
    finally:
        process.kill()
        process.wait()
        log.close()


@contextmanager
def pair(directory: Path) -> Iterator[tuple[Router, Router]]:
    """hub and spoke with their charons running and nothing loaded; the caller is in the hub's network namespace."""
    hub = Router("hub", "192.0.2.1", "100.64.0.1", directory / "hub")
    spoke = Router("spoke", "192.0.2.2", "100.64.0.11", directory / "spoke")
    authority = make_authority(directory)
    for router in (hub, spoke):
        make_router(router, authority)
    with other_namespace() as holder:
        enter = ("nsenter", "--target", str(holder), "--net")
        run("ip", "link", "add", "e0", "type", "veth", "peer", "name", "e0", "netns", str(holder))
        for prefix, router in (((), hub), (enter, spoke)):
            run(*prefix, "ip", "link", "set", "lo", "up")
            run(*prefix, "ip", "addr", "add", f"{router.underlay}/24", "dev", "e0")
            run(*prefix, "ip", "addr", "add", f"{router.transport}/32", "dev", "lo")
            run(*prefix, "ip", "link", "set", "e0", "up")
        with charon(hub, Path("/proc/self/ns/net")), charon(spoke, Path(f"/proc/{holder}/ns/net")):
            yield hub, spoke
