"""The ISP's access concentrator of an uplink that is a PPPoE session: pppoe-server(8) and its pppd(8), RFC 2516.

It runs in the WAN router that the uplink ends at, and lets one user have one session, with the address that leases.py
says.
"""

import os
import re
import socket
from ipaddress import IPv4Interface
from pathlib import Path

from dmvpn.lab.topology import LeaseServer, Session
from dmvpn.linux import files

PACKAGE = "pppoe"
_PPP = Path("/dev/ppp")
_ETC = Path("/etc/ppp")  # the node's own, above the host's
_SECRETS = _ETC / "chap-secrets"
# The host's would have its scripts run in the lab, as root, and its options count.
_LINE = re.compile(r'"(?:[^"\\]|\\.)*" (\S+) ')
_EMPTY = {"ip-up": "#!/bin/sh\n", "ip-down": "#!/bin/sh\n", "options": ""}
# A customer who fell silent is missed before he gives the session up himself, or his next one would find it taken.
_ECHO_S, _ECHO_MISSES = 3, 4


def why_not() -> str:
    """Why no ISP of a lab can speak PPPoE here; empty when one can."""
    try:
        os.close(os.open(_PPP, os.O_RDWR))
        socket.socket(socket.AF_PPPOX, socket.SOCK_STREAM).close()
    except OSError:
        return "this machine's kernel has no PPPoE, so no ISP of a lab can speak it"
    return ""


def command(server: LeaseServer, session: Session, lease: IPv4Interface, place: Path) -> tuple[str, ...]:
    """Writes what it reads and gives the words that start it; it becomes a daemon by itself. Call it in the node."""
    _let_in(server, session)
    options = place / "options"
    files.write(options, "\n".join(_lines(server, place)) + "\n")
    given = ("-L", str(server.gateway), "-R", str(lease.ip), "-N", "1")
    wire = ("-I", server.device, "-C", "isp")
    return ("pppoe-server", "-X", str(place / "pid"), *wire, *given, "-O", str(options))


def _let_in(server: LeaseServer, session: Session) -> None:
    """One line for each uplink, whose name the server has towards it: two may have the same user."""
    for name, text in _EMPTY.items():
        files.write(_ETC / name, text, mode=0o755)
    others = files.read_text(_SECRETS).splitlines() if _SECRETS.exists() else []
    own = f"{_quoted(session.user)} {server.link} {_quoted(session.password)} *"
    kept = [line for line in others if (ours := _LINE.match(line)) is None or ours[1] != server.link]
    files.write_secret(_SECRETS, "\n".join((*kept, own, "")))


def _lines(server: LeaseServer, place: Path) -> list[str]:
    return [
        f"name {server.link}",
        "require-chap",
        "lock",
        f"mtu {server.mtu_octets}",
        f"mru {server.mtu_octets}",
        f"lcp-echo-interval {_ECHO_S}",
        f"lcp-echo-failure {_ECHO_MISSES}",
        "nodefaultroute",
        "noipv6",
        "noccp",
        f"logfile {place / 'log'}",
    ]


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
