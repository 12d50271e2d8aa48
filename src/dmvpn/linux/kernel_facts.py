"""What this machine has and who holds what we need: read, never changed, one line for each thing that is missing."""

import errno
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from dmvpn.errors import Fault
from dmvpn.linux import process, process_list
from dmvpn.linux.netlink import NETLINK_NETFILTER, Events, NetlinkRefusal, Requests
from dmvpn.linux.privileges import INDISPENSABLE, Capability, effective

_PLUGINS = Path("/usr/lib/ipsec/plugins")
_NFT_GET_GENERATION = 10 << 8 | 16
_NFLOG_CONFIG = 4 << 8 | 1
_UNBOUND_GROUP = 0xFFFF
_LISTENING = frozenset({"0A"})  # TCP_LISTEN, include/net/tcp_states.h

# Files that a router of ours runs or loads, and the Debian package that has each.
NEEDED = (
    (Path("/usr/lib/ipsec/charon"), "strongswan-charon"),
    (_PLUGINS / "libstrongswan-openssl.so", "libstrongswan-standard-plugins"),
    (_PLUGINS / "libstrongswan-kernel-libipsec.so", "libcharon-extra-plugins"),
    (Path("/usr/lib/frr/zebra"), "frr"),
    (Path("/usr/lib/frr/bgpd"), "frr"),
    (Path("/usr/lib/frr/frr-reload.py"), "frr-pythontools"),
)
PROGRAMS = (
    ("swanctl", "strongswan-swanctl"),
    ("vtysh", "frr"),
    ("nft", "nftables"),
    ("ip", "iproute2"),
)


@dataclass(frozen=True, slots=True)
class KernelFacts:
    """`gre`, `esp`: the kernel plane's device and SAs can be made; `aes`: the processor has AES instructions."""

    tun: bool
    gre: bool
    esp: bool
    nftables: bool
    nflog: bool
    capabilities: frozenset[Capability]
    aes: bool


@dataclass(frozen=True, slots=True)
class Holder:
    """A process; `pid` 0: it is not visible from here (another PID namespace)."""

    pid: int
    name: str

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid})" if self.pid else "a process that is not visible here"


def facts() -> KernelFacts:
    """Ask the kernel; about 20 ms, for the throwaway namespace."""
    return KernelFacts(
        tun=os.access("/dev/net/tun", os.R_OK | os.W_OK),
        gre=has_gre(),
        esp=has_esp(),
        nftables=_has_netfilter(_NFT_GET_GENERATION, 0),
        nflog=_has_netfilter(_NFLOG_CONFIG, _UNBOUND_GROUP),
        capabilities=effective(),
        aes=has_aes(),
    )


def has_aes() -> bool:
    """AES instructions, by the flags of the first processor: x86 and ARM both call the flag aes."""
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return False
    lines = (line.partition(":") for line in text.splitlines())
    return any("aes" in value.split() for key, _, value in lines if key.strip() in ("flags", "Features"))


def has_gre() -> bool:
    """Whether a GRE device with a key can be made; tried in a network namespace that ends with the try."""
    argv = ("unshare", "--net", "ip", "link", "add", "probe", "type", "gre", "key", "1")
    return process.run(argv, timeout_s=10, accept=range(256)).status == 0


def has_esp() -> bool:
    """Whether the kernel takes an ESP SA with AES-GCM; tried in a network namespace that ends with the try."""
    sides = ("src", "192.0.2.1", "dst", "192.0.2.2", "proto", "esp", "spi", "0x100", "mode", "tunnel")
    # A key of 128 bits and RFC 4106's salt of 32, for nobody's traffic.
    cipher = ("aead", "rfc4106(gcm(aes))", f"0x{'01' * 20}", "128")
    argv = ("unshare", "--net", "ip", "xfrm", "state", "add", *sides, *cipher)
    return process.run(argv, timeout_s=10, accept=range(256)).status == 0


def has_kernel_plane() -> bool:
    return has_gre() and has_esp()


def need_programs() -> None:
    """Raises Fault that names all missing programs and what to install."""
    missing = [(path.name, package) for path, package in NEEDED if not path.exists()]
    for program, package in PROGRAMS:
        try:
            process.find(program, package)
        except process.ProcessFault:
            missing.append((program, package))
    if missing:
        names = ", ".join(name for name, _ in missing)
        packages = " ".join(dict.fromkeys(package for _, package in missing))
        raise Fault("programs", f"not on this machine: {names}", f"apt install {packages}")


def need_capabilities() -> None:
    """Raises Fault that names the capability we lack."""
    lacking = [f"CAP_{capability.name}" for capability in INDISPENSABLE if capability not in effective()]
    if lacking:
        raise Fault("capabilities", f"{' and '.join(lacking)} missing", "run as root, or give them to the container")


def udp_holders(port: int) -> tuple[Holder, ...]:
    """Who has a UDP socket bound to this port, on whatever address, in this network namespace."""
    return _holders(port, ("udp", "udp6"), frozenset())


def tcp_listeners(port: int) -> tuple[Holder, ...]:
    """Who listens on this TCP port, on whatever address, in this network namespace."""
    return _holders(port, ("tcp", "tcp6"), _LISTENING)


def _holders(port: int, tables: tuple[str, ...], states: frozenset[str]) -> tuple[Holder, ...]:
    inodes = {inode for name in tables for bound, inode in _sockets(name, states) if bound == port}
    if not inodes:
        return ()
    found = tuple(dict.fromkeys(holder for holder, inode in _socket_inodes() if inode in inodes))
    return found or (Holder(0, ""),)


def running(names: frozenset[str]) -> tuple[Holder, ...]:
    """Processes of these names (as in /proc/PID/comm) in this network namespace: another charon, another FRR."""
    try:
        here = Path("/proc/self/ns/net").readlink()
    except OSError:
        return ()
    found = []
    for directory in process_list.every():
        try:
            name = (directory / "comm").read_text().strip()
            if name in names and (directory / "ns" / "net").readlink() == here:
                found.append(Holder(int(directory.name), name))
        except OSError:  # it ended meanwhile, or is not ours to look at
            continue
    return tuple(found)


def _sockets(name: str, states: frozenset[str]) -> Iterator[tuple[int, str]]:
    """Port and inode of each socket in /proc/net/NAME, in these states or in any; proc(5)."""
    try:
        lines = Path("/proc/self/net", name).read_text().splitlines()[1:]
    except OSError:
        return
    for line in lines:
        fields = line.split()
        if len(fields) > 9 and (not states or fields[3] in states):
            yield int(fields[1].rpartition(":")[2], 16), fields[9]


def _socket_inodes() -> Iterator[tuple[Holder, str]]:
    for directory in process_list.every():
        try:
            entries = list((directory / "fd").iterdir())
            name = (directory / "comm").read_text().strip()
        except OSError:
            continue
        for entry in entries:
            with suppress(OSError):  # closed meanwhile
                link = str(entry.readlink())
                if link.startswith("socket:["):
                    yield Holder(int(directory.name), name), link[8:-1]


def _has_netfilter(kind: int, group: int) -> bool:
    """Whether a subsystem of nfnetlink answers: one that is not there is EINVAL, which a harmless question never is."""
    try:
        with closing(Events((), NETLINK_NETFILTER)) as opened:
            Requests(opened.socket).ask("netfilter", kind, 0, struct.pack("!BBH", socket.AF_UNSPEC, 0, group))
    except NetlinkRefusal as refusal:
        return refusal.errno not in (errno.EINVAL, errno.EOPNOTSUPP)
    except OSError:  # no nfnetlink at all
        return False
    return True
