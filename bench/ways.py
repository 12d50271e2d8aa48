"""What is measured: ways from router-a to router-b. Each sets itself up on a fresh stage and says what it runs."""

import json
import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import secure
from bench.namespaces import MTU_OCTETS, Node, Stage, wait_for
from dmvpn.errors import Fault
from dmvpn.linux.socket_buffers import enlarge_udp
from dmvpn.render.strongswan import CHARON

_DEVICE = "acme-blue"


@dataclass(frozen=True, slots=True)
class Way:
    """One way. `needs` are its programs and the Debian packages that have them."""

    name: str
    what: str
    set_up: Callable[[Stage], None]
    needs: tuple[tuple[str, str], ...] = ()


def missing(path: Way) -> str:
    """The first program that is not there, with its package; empty if all are."""
    for program, package in path.needs:
        if shutil.which(program) is None:
            return f"{program} is missing; apt-get install {package}"
    return ""


def _sides(stage: Stage) -> tuple[tuple[int, int, Node], tuple[int, int, Node]]:
    return (1, 2, stage.router_a), (2, 1, stage.router_b)


def _bare(stage: Stage) -> None:
    for own, peer, router in _sides(stage):
        router.ip(f"route add 10.1.{peer}.0/24 via 192.0.2.{peer} src 10.1.{own}.1")


def _segments(stage: Stage) -> None:
    """The same without segmentation offload, so that every packet of the MTU is handled as one."""
    _bare(stage)
    for node in stage.nodes:
        node.run((sys.executable, "-m", "bench.offload", "off", *stage.devices(node)))


def _tap(own: int, peer: int, router: Node) -> None:
    router.ip(f"address add 100.64.0.{own}/32 dev lo")
    router.ip(f"tuntap add {_DEVICE} mode tap")
    router.ip(f"link set {_DEVICE} address 02:00:64:40:00:0{own} mtu {MTU_OCTETS} up")
    router.ip(f"address add 10.255.1.{own}/24 dev {_DEVICE}")
    router.ip(f"neigh add 10.255.1.{peer} lladdr 02:00:64:40:00:0{peer} dev {_DEVICE} nud permanent")
    router.ip(f"route add 10.1.{peer}.0/24 via 10.255.1.{peer}")


def _gre(stage: Stage, own: int, peer: int, router: Node) -> None:
    control = stage.directory / f"gre{own}.sock"
    file = stage.directory / f"gre{own}.json"
    tunnel = {"device": _DEVICE, "key": 1, "ttl": 64, "tos": "inherit"}
    tree = {"version": 1, "network": "acme", "bind_device": "ipsec0", "local": f"100.64.0.{own}"}
    file.write_text(json.dumps({**tree, "control": str(control), "tunnels": [tunnel]}))
    router.start("dmvpn-gre", (sys.executable, "-m", "dmvpn.plane.main", str(file)), stage.directory / f"gre{own}.log")
    wait_for(control.exists, f"dmvpn-gre of {router.name}")
    prefixes = [f"10.255.1.{peer}/32", f"10.1.{peer}.0/24"]
    _ask(control, {"op": "allow", "tunnel": _DEVICE, "nbma": f"100.64.0.{peer}", "prefixes": prefixes})
    wait_for(lambda: _ask(control, {"op": "state"})["socket"] == "bound", f"the socket of {router.name}")


def _ask(control: Path, request: dict[str, object]) -> dict[str, object]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(control))
        connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile("rb") as lines:
            reply: dict[str, object] = json.loads(lines.readline())
    if reply.get("ok") is not True:
        raise Fault("dmvpn-gre", str(reply))
    return reply


def _clear(stage: Stage) -> None:
    """The GRE loop alone: a second veth pair stands where charon's device would be."""
    a, b = stage.router_a, stage.router_b
    for own, peer, router in _sides(stage):
        router.ip("link set wan down")
        router.ip("link set wan name ipsec0")
        router.ip("link set ipsec0 up")
        _tap(own, peer, router)
        router.ip(f"route add 100.64.0.{peer}/32 via 192.0.2.{peer} dev ipsec0 src 100.64.0.{own}")
    for own, peer, router in ((1, 2, a), (2, 1, b)):
        _gre(stage, own, peer, router)


def _protected(stage: Stage) -> None:
    for own, peer, router in _sides(stage):
        _tap(own, peer, router)
    secure.connect(stage)
    for own, peer, router in _sides(stage):
        _gre(stage, own, peer, router)


def _has_device(router: Node, device: str) -> bool:
    return f" {device}:" in router.ip("-o link")


def _openvpn(stage: Stage) -> None:
    fingerprints = {}
    for own, _, router in _sides(stage):
        key, certificate = stage.directory / f"vpn{own}.key", stage.directory / f"vpn{own}.pem"
        make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:secp384r1 -nodes -days 2 -subj"
        router.run((*make.split(), f"/CN=bench-{own}", "-keyout", str(key), "-out", str(certificate)))
        show = router.run(("openssl", "x509", "-in", str(certificate), "-noout", "-fingerprint", "-sha256"))
        fingerprints[own] = show.strip().partition("=")[2]
    for own, peer, router in _sides(stage):
        line = f"openvpn --dev tun0 --dev-type tun --disable-dco --proto udp --nobind --remote 192.0.2.{peer} 1194"
        if own == 1:
            line = "openvpn --dev tun0 --dev-type tun --disable-dco --proto udp --local 192.0.2.1 --lport 1194"
        line += f" --ifconfig 10.9.0.{own} 10.9.0.{peer} --tun-mtu {MTU_OCTETS} --mssfix 0 --ping 10"
        line += " --tls-server --dh none" if own == 1 else " --tls-client"
        line += f" --cert {stage.directory}/vpn{own}.pem --key {stage.directory}/vpn{own}.key"
        line += " --data-ciphers AES-256-GCM --cipher AES-256-GCM --auth-nocache"
        command = (*line.split(), "--peer-fingerprint", fingerprints[peer])
        router.start("openvpn", command, stage.directory / f"vpn{own}.log")
    log = stage.directory / "vpn2.log"
    wait_for(lambda: b"Initialization Sequence Completed" in log.read_bytes(), "the OpenVPN client")
    for own, peer, router in _sides(stage):
        enlarge_udp(router.processes["openvpn"].pid)  # the same as charon has; the device's queue is 500 for both
        wait_for(partial(_has_device, router, "tun0"), "tun0")
        router.ip(f"route add 10.1.{peer}.0/24 dev tun0 src 10.1.{own}.1")


WAYS = (
    Way("veth", "bare veth, segmentation offload as the kernel has it", _bare),
    Way("veth-segments", "bare veth, every packet on its own", _segments),
    Way("gre", "dmvpn-gre without ESP", _clear),
    Way(
        "plane",
        "dmvpn-gre, charon with kernel-libipsec, AES-256-GCM; files and certificates as a router has them",
        _protected,
        ((CHARON, "strongswan-charon libcharon-extra-plugins"), ("swanctl", "strongswan-swanctl")),
    ),
    Way(
        "openvpn",
        "OpenVPN in user space, AES-256-GCM",
        _openvpn,
        (("openvpn", "openvpn"), ("openssl", "openssl")),
    ),
)
