"""The SSH session in which this process runs, if it does. sshd(8), "SSH_CONNECTION"; proc(5)."""

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from dmvpn.linux.netlink import Requests
from dmvpn.linux.route_lookup import lookup

VARIABLE = "SSH_CONNECTION"
GENERATIONS = 32


@dataclass(frozen=True, slots=True)
class Session:
    """`client` is where the operator is, `server` the address of ours that he called; `device` leads to him."""

    client: IPv4Address | IPv6Address
    server: IPv4Address | IPv6Address
    port: int
    device: str
    gateway: IPv4Address | IPv6Address | None


def own_session() -> Session | None:
    """None without one, or when it ends on another machine (a lab's host, seen from its routers)."""
    words = _words()
    if len(words) != 4:
        return None
    try:
        client, server, port = ip_address(words[0].partition("%")[0]), ip_address(words[2].partition("%")[0]), words[3]
    except ValueError:
        return None
    if not port.isdigit() or not _is_ours(server):
        return None
    with Requests() as requests:
        row = lookup(requests, client)
    return None if row is None else Session(client, server, int(port), row.device or "", row.gateway)


def _is_ours(address: IPv4Address | IPv6Address) -> bool:
    with socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True


def _words() -> list[str]:
    """sudo takes the variable away, so the environment of those who started us counts as well."""
    if VARIABLE in os.environ:
        return os.environ[VARIABLE].split()
    process = os.getppid()
    for _ in range(GENERATIONS):
        if process <= 1:
            return []
        with suppress(OSError, ValueError):
            found = _environment(process).get(VARIABLE)
            if found is not None:
                return found.split()
        try:
            process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            return []
    return []


def _environment(process: int) -> Mapping[str, str]:
    text = Path(f"/proc/{process}/environ").read_bytes().decode(errors="replace")
    return dict(line.split("=", 1) for line in text.split("\0") if "=" in line)
