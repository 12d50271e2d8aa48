"""That a full TCP segment is the largest packet its way carries: a LAN host's connection through the rendered rules.

Each end of the pair is a router with a host in its LAN; the near one has the rules. The hosts have devices so wide that
nothing but those tells them the size of a segment, and no ICMP reaches the one that sends.
"""

import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from string import Template

from ipsec_pair import other_namespace, run, wait_for
from mtu_checks import DEVICE, OVERLAY6, WIDE, lladdr
from mtu_pair import OVERLAY, TRANSPORT, Pair, set_mtu
from mtu_table import Way

from dmvpn.linux import frame_ring, namespaces, process
from dmvpn.linux.pace import patience
from dmvpn.network.compile import compile_plan
from dmvpn.network.loading import load
from dmvpn.network.mtu import FLOOR_OCTETS, TCP_V4_OCTETS, TCP_V6_OCTETS
from dmvpn.network.plan import Cloud, Plan, Plane
from dmvpn.network.registry import registry
from dmvpn.render import nftables
from dmvpn.render.layout import Layout

FILE = Template("""
version: 1
network: acme
domain: example.net
prefixes: [10.0.0.0/8, "fd00::/16"]
crypto: {measured: {esp: $esp}}
clouds:
  blue:
    overlay: [$overlays]
    gre-key: 1
    crypto: measured
    plane: $plane
    underlay: $family
    underlay-mtu: $octets
    nat-traversal: $udp
sites:
  hq:
    asn: 65000
    networks: {lan: {port: lan0, prefix: [10.1.0.0/24, "fd00:1::/64"]}}
    routers:
      hq1:
        uplinks: {wan: {port: e0, address: [192.0.2.1/24, "2001:db8::1/64"], gateway: [192.0.2.2, "2001:db8::2"]}}
        tunnels: {blue: {role: hub, address: [$addresses]}}
""")
OVERLAYS = {4: "10.255.1.0/24", 6: "fd00:255::/64"}
# By end: the LAN, its router in it, and its host.
LANS = {4: ("10.1.0.0/24", "10.1.1.0/24"), 6: ("fd00:1::/64", "fd00:2::/64")}
ROUTERS = {4: ("10.1.0.1", "10.1.1.1"), 6: ("fd00:1::1", "fd00:2::1")}
HOSTS = {4: ("10.1.0.10", "10.1.1.10"), 6: ("fd00:1::10", "fd00:2::10")}
OVERLAY_OF = {4: OVERLAY, 6: OVERLAY6}
HEADERS_OCTETS = {4: TCP_V4_OCTETS, 6: TCP_V6_OCTETS}
KINDS = {4: socket.AF_INET, 6: socket.AF_INET6}
PORT = 80
SEGMENTS = 2
LIMIT_S = 5.0
# A host to which no ICMP comes, RFC 2923 2.1: it goes on with what it was told at first.
SILENCE = """table inet silence {
 chain out {
  type filter hook output priority filter
  oifname lan0 icmp type destination-unreachable drop
  oifname lan0 icmpv6 type packet-too-big drop
 }
}
"""


@dataclass
class Lan:
    """Both hosts: who holds the namespace of the near one, and where the far one listens."""

    found: Pair
    host: int
    listening: dict[int, socket.socket]

    def connection(self, family: int) -> tuple[socket.socket, socket.socket]:
        """The near host's end and the far one's."""
        with _within(self.host):
            call = socket.socket(KINDS[family], socket.SOCK_STREAM)
        call.settimeout(patience(LIMIT_S))
        call.connect((HOSTS[family][1], PORT))
        called, _ = self.listening[family].accept()
        called.settimeout(patience(LIMIT_S))
        return call, called


def rules(way: Way, esp: str, underlay: int) -> str:
    """What a router with such a cloud has, from its file on. Its MTU is the table's."""
    mtu = way.mtu_octets(esp, underlay)
    # The file is refused where IPv6 would have too little.
    families = [4, 6] if mtu >= FLOOR_OCTETS else [4]
    text = FILE.substitute(
        esp=esp,
        overlays=", ".join(f'"{OVERLAYS[one]}"' for one in families),
        addresses=", ".join(f'"{OVERLAY_OF[one][0]}"' for one in families),
        plane=way.plane,
        family=f"ipv{way.family}",
        octets=underlay,
        udp=str(way.udp).lower(),
    )
    plan = compile_plan(load(text, "network.yaml"), "hq1", secrets={})
    (cloud,) = plan.clouds
    assert cloud.device == DEVICE
    if not way.tunnel_mode:
        # A cloud with foreign routers has the smaller MTU, that of tunnel mode; the row is of the larger.
        return _rendered(plan, replace(cloud, **sizes(mtu)))
    assert cloud.mtu_octets == mtu
    return _rendered(plan, cloud)


def sizes(mtu: int) -> dict[str, int]:
    return {"mtu_octets": mtu, "mss_v4_octets": mtu - TCP_V4_OCTETS, "mss_v6_octets": mtu - TCP_V6_OCTETS}


def _rendered(plan: Plan, cloud: Cloud) -> str:
    (file,) = nftables.render(replace(plan, clouds=(cloud,)), Layout(plan.network)).files
    return file.text


def check_mss(lan: Lan, way: Way, esp: str, underlay: int) -> None:
    """For each family inside."""
    mtu = way.mtu_octets(esp, underlay)
    largest = way.underlay_octets(esp, mtu)
    load_rules(rules(way, esp, underlay))
    lan.found.set_underlay_mtu(underlay)
    set_mtu(DEVICE, mtu)
    for family in (4, 6) if mtu >= FLOOR_OCTETS else (4,):
        what = f"{way}, {esp}, {underlay}, IPv{family} inside"
        if family == 6:
            _restore6(way)
        with lan.found.wire() as wire:
            agreed, arrived = transfer(lan, family)
            assert agreed == {mtu - HEADERS_OCTETS[family]}, f"{what}: segments of {agreed}"
            assert arrived, f"{what}: a full segment does not pass"
            seen = wire.take(0)
        assert all(packet.whole for packet in seen), what
        # One whose answer is late may be sent again.
        full = [packet.octets for packet in seen if packet.octets >= largest]
        assert len(full) >= SEGMENTS, what
        assert set(full) == {largest}, what


def check_too_large(lan: Lan, way: Way, esp: str, underlay: int) -> None:
    """Were the clamp one octet larger, or not there, a full segment would not pass: none of the above is by itself."""
    written = rules(way, esp, underlay)
    mtu = way.mtu_octets(esp, underlay)
    set_mtu(DEVICE, mtu)
    for family, headers in HEADERS_OCTETS.items():
        mss = mtu - headers
        larger = written.replace(f"size set {mss} ", f"size set {mss + 1} ")
        absent = written.replace("goto clamp_blue", "accept")
        assert written not in (larger, absent)
        for altered, expected in ((larger, mss + 1), (absent, WIDE - headers)):
            load_rules(altered)
            found = transfer(lan, family, within_s=1.0)
            assert found == ({expected}, False), (family, expected, found)
        load_rules(written)
        assert transfer(lan, family) == ({mss}, True)


def load_rules(text: str) -> None:
    process.run(("nft", "-f", "-"), timeout_s=20, input=text.encode())


def transfer(lan: Lan, family: int, within_s: float = LIMIT_S) -> tuple[set[int], bool]:
    """The sizes of a segment at both ends; whether full ones of the host's arrive."""
    call, called = lan.connection(family)
    with call, called:
        called.settimeout(patience(within_s))
        agreed = {end.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) for end in (call, called)}
        wanted = SEGMENTS * max(agreed)
        call.sendall(bytes(wanted))
        with suppress(TimeoutError):
            while wanted > 0 and (octets := called.recv(wanted)):
                wanted -= len(octets)
        # With a reset at the end nothing of this connection is sent behind it.
        call.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return agreed, not wanted


def _restore6(way: Way) -> None:
    """An MTU below IPv6's least took from the device what it had of that family."""
    lines = (
        # This order: the route is by the address.
        f"address replace {OVERLAY6[0]}/64 dev {DEVICE} nodad",
        f"neigh replace {OVERLAY6[1]} lladdr {lladdr(way, 1)} dev {DEVICE} nud permanent",
        f"route replace {LANS[6][1]} via {OVERLAY6[1]}",
    )
    process.run(("ip", "-6", "-batch", "-"), timeout_s=20, input="\n".join((*lines, "")).encode())


@contextmanager
def lan(found: Pair, way: Way, directory: Path) -> Iterator[Lan]:
    """Behind the near end, in which the caller is; on the kernel plane the mGRE devices are there already."""
    with other_namespace() as near, other_namespace() as far, ExitStack() as stack:
        for end, (router, host) in enumerate(((os.getpid(), near), (found.pid, far))):
            _host(end, router, host)
            if way.plane is Plane.USERSPACE:
                stack.enter_context(_gre(end, router, way, directory))
            for family, addresses in OVERLAY_OF.items():
                _run_within(router, "ip", "route", "add", LANS[family][1 - end], "via", addresses[1 - end])
        load_rules(SILENCE)
        with _within(far):
            listening = {
                family: socket.create_server((addresses[1], PORT), family=KINDS[family])
                for family, addresses in HOSTS.items()
            }
        for one in listening.values():
            one.settimeout(patience(LIMIT_S))
            stack.enter_context(one)
        yield Lan(found, near, listening)


def _host(end: int, router: int, host: int) -> None:
    """One with a cable to its router, both as wide."""
    cable = ("lan0", "mtu", str(WIDE), "type", "veth", "peer", "name", "eth0", "mtu", str(WIDE), "netns", str(host))
    _run_within(router, "ip", "link", "add", *cable)
    _run_within(router, "ip", "link", "set", "lan0", "up")
    _run_within(host, "ip", "link", "set", "eth0", "up")
    for family, length, nodad in ((4, 24, ()), (6, 64, ("nodad",))):
        _run_within(router, "ip", "address", "add", f"{ROUTERS[family][end]}/{length}", "dev", "lan0", *nodad)
        _run_within(host, "ip", "address", "add", f"{HOSTS[family][end]}/{length}", "dev", "eth0", *nodad)
        _run_within(host, "ip", "route", "add", "default", "via", ROUTERS[family][end])
    with _within(router):
        _set_sysctls({"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"})
    with _within(host):
        # With timestamps the size of a segment is 12 octets less than was agreed.
        _set_sysctls({"net/ipv4/tcp_timestamps": "0"})
        frame_ring.turn_offloads_off("eth0")


@contextmanager
def _gre(end: int, pid: int, way: Way, directory: Path) -> Iterator[None]:
    """dmvpn-gre at one end, between a TAP and charon's device; it takes from the other end what comes from there."""
    _run_within(pid, "ip", "tuntap", "add", DEVICE, "mode", "tap")
    _run_within(pid, "ip", "link", "set", DEVICE, "address", lladdr(way, end), "mtu", str(WIDE), "up")
    _run_within(pid, "ip", "link", "set", "ipsec0", "group", str(registry("acme").ipsec_group))
    for own, length, nodad in ((OVERLAY, 24, ()), (OVERLAY6, 64, ("nodad",))):
        _run_within(pid, "ip", "address", "add", f"{own[end]}/{length}", "dev", DEVICE, *nodad)
        neighbour = (own[1 - end], "lladdr", lladdr(way, 1 - end), "dev", DEVICE, "nud", "permanent")
        _run_within(pid, "ip", "neigh", "replace", *neighbour)
    control, file, log = (directory / f"gre{end}.{kind}" for kind in ("sock", "json", "log"))
    tunnel = {"device": DEVICE, "key": 1, "ttl": 64, "tos": "inherit"}
    tree = {"version": 1, "network": "acme", "bind_device": "ipsec0", "local": TRANSPORT[end]}
    file.write_text(json.dumps(tree | {"control": str(control), "tunnels": [tunnel]}))
    argv = ("nsenter", "--target", str(pid), "--net", sys.executable, "-m", "dmvpn.plane.main", str(file))
    with log.open("wb") as said, subprocess.Popen(argv, stdout=said, stderr=said) as running:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                wait_for(lambda: connection.connect_ex(str(control)) == 0, "dmvpn-gre", patience(20))
                allowed = ["0.0.0.0/0", "::/0"]
                request = {"op": "allow", "tunnel": DEVICE, "nbma": TRANSPORT[1 - end], "prefixes": allowed}
                connection.sendall(json.dumps(request).encode() + b"\n")
                with connection.makefile("rb") as lines:
                    assert json.loads(lines.readline())["ok"]
            yield
        finally:
            running.kill()


@contextmanager
def _within(pid: int) -> Iterator[None]:
    """In the network namespace of that process meanwhile; a socket stays where it was made."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        namespaces.join(Path(f"/proc/{pid}/ns/net"))
        yield
    finally:
        namespaces.join(Path(f"/proc/self/fd/{home}"))
        os.close(home)


def _run_within(pid: int, *argv: str) -> None:
    with _within(pid):
        run(*argv)


def _set_sysctls(values: dict[str, str]) -> None:
    for key, value in values.items():
        (Path("/proc/sys") / key).write_text(value)
