"""Two charons with a shared secret and a cable between them, for counting what one packet becomes on the wire.

The caller is in the near one's network namespace. Children are made one after the other in one IKE_SA, since only
their ciphers differ.
"""

import errno
import fcntl
import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import pppoe_session
from ipsec_pair import TEXTS, other_namespace, run, wait_for
from vici import Session

from dmvpn.linux import namespaces
from dmvpn.linux.pace import patience
from dmvpn.network.plan import Plane
from dmvpn.render.strongswan import PLUGINS

UNDERLAY = {4: ("192.0.2.1", "192.0.2.2"), 6: ("2001:db8::1", "2001:db8::2")}
TRANSPORT = ("100.64.0.1", "100.64.0.11")
OVERLAY = ("10.255.1.1", "10.255.1.11")
QUIET_S = 0.03
IP_MTU_DISCOVER, DONT_FRAGMENT = 10, 2
ETH_P_ALL = 3
SIOCSIFMTU = 0x8922
SENT_BY_US = 4  # PACKET_OUTGOING


def conf(plane: Plane) -> str:
    """strongswan.conf of the pair, with the plugins that a router of this plane has."""
    lines = (TEXTS / "strongswan.conf").read_text().splitlines()
    return "\n".join(
        f"  load = {' '.join(PLUGINS[plane])}" if line.lstrip().startswith("load =") else line for line in lines
    )


@dataclass(frozen=True, slots=True)
class Seen:
    """A packet on the wire: its IP length, and whether it is whole and may not be fragmented."""

    octets: int
    whole: bool
    may_not_be_fragmented: bool  # DF, or IPv6


@dataclass
class Pair:
    near: Session
    far: Session
    pid: int  # who holds the far namespace
    family: int
    device: str = "e0"

    def child(self, esp: str, *, mode: str = "tunnel", encap: bool = False) -> None:
        """Have exactly this one, in an IKE_SA of its kind; returns when both ends have installed it."""
        name = f"{mode}-{'udp' if encap else 'esp'}"
        for session in (self.far, self.near):
            # The responder takes any connection that fits, and another one may want UDP.
            for other in session.get_conns().get("conns", ()):
                if other.decode() != name:
                    session.unload_conn({"name": other})
        for session, (own, peer), (own_inside, peer_inside) in (
            (self.far, UNDERLAY[self.family][::-1], TRANSPORT[::-1]),
            (self.near, UNDERLAY[self.family], TRANSPORT),
        ):
            selectors = (
                ("dynamic[gre]", "dynamic[gre]")
                if mode == "transport"
                else (f"{own_inside}/32[gre]", f"{peer_inside}/32[gre]")
            )
            session.load_conn(
                {
                    name: {
                        "version": "2",
                        "local_addrs": [own],
                        "remote_addrs": [peer],
                        "proposals": ["aes128-sha256-x25519"],
                        "encap": "yes" if encap else "no",
                        "mobike": "no",
                        "local": {"auth": "psk", "id": own},
                        "remote": {"auth": "psk", "id": peer},
                        "children": {
                            "gre": {
                                "mode": mode,
                                "local_ts": [selectors[0]],
                                "remote_ts": [selectors[1]],
                                "esp_proposals": [esp],
                            }
                        },
                    }
                }
            )
        for sa in list(self.near.list_sas()):
            for standing, values in sa.items():
                if standing != name:
                    list(self.near.terminate({"ike-id": values["uniqueid"], "timeout": "5000", "force": "yes"}))
                elif values.get("child-sas"):
                    list(self.near.terminate({"child": "gre", "timeout": "5000"}))
        list(
            self.near.initiate(
                {"ike": name, "child": "gre", "timeout": str(int(patience(10) * 1000)), "init-limits": "no"}
            )
        )
        wait_for(lambda: self._installed(self.far) == 1, f"{esp} at the far end", patience(10))
        assert self._installed(self.near) == 1

    def _installed(self, session: Session) -> int:
        rows = [values for message in session.list_sas() for values in message.values()]
        return sum(child["state"] == b"INSTALLED" for row in rows for child in row.get("child-sas", {}).values())

    def at_far(self, *argv: str) -> None:
        run("nsenter", "--target", str(self.pid), "--net", *argv)

    def set_underlay_mtu(self, octets: int) -> None:
        """At this end, which sends what is looked at."""
        set_mtu(self.device, octets)

    @contextmanager
    def wire(self) -> Iterator["Wire"]:
        """What we send between the underlay addresses meanwhile."""
        with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL)) as tap:
            tap.bind((self.device, ETH_P_ALL))
            yield Wire(tap)

    def send_gre(self, inner: int) -> bool:
        """GRE with a key and DF from one transport address to the other, as dmvpn-gre sends it; whether it may go."""
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_GRE) as gre:
            gre.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, DONT_FRAGMENT)
            gre.bind((TRANSPORT[0], 0))
            try:
                gre.sendto(struct.pack("!HHI", 0x2000, 0x0800, 1) + bytes(inner), (TRANSPORT[1], 0))
            except OSError as error:
                if error.errno != errno.EMSGSIZE:
                    raise
                return False
        return True


def set_mtu(device: str, octets: int) -> None:
    """netdevice(7); without a process for each, which is dear in an emulated machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFMTU, struct.pack("16si12x", device.encode(), octets))


@dataclass
class Wire:
    tap: socket.socket

    def take(self, count: int, within_s: float = 3.0) -> list[Seen]:
        """The next packets: as many as are wanted, and what comes right behind them."""
        found: list[Seen] = []
        until = time.monotonic() + patience(within_s)
        while True:
            left = QUIET_S if len(found) >= count else until - time.monotonic()
            if left <= 0 or not select.select((self.tap,), (), (), left)[0]:
                return found
            octets, (_device, _protocol, kind, *_) = self.tap.recvfrom(65535)
            seen = _seen(octets) if kind == SENT_BY_US else None
            found += [seen] if seen is not None else []


def _seen(octets: bytes) -> Seen | None:
    """ESP, or UDP between ports 4500 without IKE's marker, whole or in pieces; None for anything else."""
    if octets[0] >> 4 == 4:
        length, fragment, protocol = struct.unpack_from("!H2xHxB", octets, 2)
        body, whole, marked = octets[20:], not fragment & 0x3FFF, bool(fragment & 0x4000)
    elif octets[0] >> 4 == 6:
        length, protocol = struct.unpack_from("!HB", octets, 4)
        length, body, marked = length + 40, octets[40:], True
        whole = protocol != 44
    else:
        return None
    ike = protocol == 17 and body[8:12] == bytes(4)
    keepalive = protocol == 17 and body[4:6] == b"\0\x09"
    return Seen(length, whole, marked) if protocol in (17, 44, 50) and not ike and not keepalive else None


@contextmanager
def charon(directory: Path, plane: Plane, namespace: Path) -> Iterator[Session]:
    (directory / "run").mkdir(parents=True)
    settings = directory / "strongswan.conf"
    settings.write_text(conf(plane))
    socket_path = directory / "run" / "charon.vici"
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    namespaces.join(namespace)
    try:
        argv = (sys.executable, str(TEXTS / "start_charon.py"), str(directory / "run"), str(settings))
        with (directory / "charon.log").open("wb") as log:
            process = subprocess.Popen(argv, stderr=log, stdout=log)
    finally:
        namespaces.join(Path(f"/proc/self/fd/{home}"))
        os.close(home)
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connected.settimeout(patience(20))
    try:
        # Between bind(2) and listen(2) the socket is there and refuses.
        wait_for(lambda: connected.connect_ex(str(socket_path)) == 0, "charon", patience(20))
        session = Session(connected)
        session.load_shared({"type": "IKE", "data": "a secret of this test"})
        yield session
    finally:
        connected.close()
        process.kill()
        process.wait()


@contextmanager
def _session(enter: tuple[str, ...], port: str, directory: Path) -> Iterator[str]:
    """Its device, once it has its address."""
    own, peer = UNDERLAY[4]
    with pppoe_session.concentrator(enter, port, peer, own, directory), pppoe_session.session(port, directory) as unit:
        unit.start()
        shown = ("ip", "-4", "address", "show", "dev", pppoe_session.DEVICE)
        pppoe_session.until(
            "an address", lambda: own in subprocess.run(shown, capture_output=True, text=True).stdout, unit.log
        )
        yield pppoe_session.DEVICE


@contextmanager
def pair(
    directory: Path, plane: Plane, family: int = 4, *, vlan: int | None = None, pppoe: bool = False
) -> Iterator[Pair]:
    """The caller must be in a network namespace of its own. With `pppoe` the near end has a session at the far one."""
    with other_namespace() as holder, ExitStack() as stack:
        enter = ("nsenter", "--target", str(holder), "--net")
        device = "e0" if vlan is None else f"e0.{vlan}"
        run("ip", "link", "add", "e0", "type", "veth", "peer", "name", "e0", "netns", str(holder))
        for end, prefix in enumerate(((), enter)):
            run(*prefix, "ip", "link", "set", "lo", "up")
            run(*prefix, "ip", "link", "set", "e0", "up")
            if vlan is not None:
                run(*prefix, "ip", "link", "add", "link", "e0", "name", device, "type", "vlan", "id", str(vlan))
                run(*prefix, "ip", "link", "set", device, "up")
            run(*prefix, "ip", "addr", "add", f"{TRANSPORT[end]}/32", "dev", "lo")
            if pppoe:
                continue  # the session brings the address
            own = ip_address(UNDERLAY[family][end])
            nodad = ("nodad",) if family == 6 else ()
            run(*prefix, "ip", "addr", "add", f"{own}/{24 if family == 4 else 64}", "dev", device, *nodad)
        if pppoe:
            device = stack.enter_context(_session(enter, device, directory))
        near = stack.enter_context(charon(directory / "near", plane, Path("/proc/self/ns/net")))
        far = stack.enter_context(charon(directory / "far", plane, Path(f"/proc/{holder}/ns/net")))
        yield Pair(near, far, holder, family, device)
