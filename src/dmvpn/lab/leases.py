"""What gives an uplink its address: the ISP's DHCP server, dnsmasq in the WAN or NAT router that the uplink ends at, or
an access concentrator (sessions.py). dnsmasq(8).

It has one address to give at a time. `renumber` takes the next: a DHCP client asks again within seconds, is refused,
and starts anew, as with an ISP that moves its customers; a session is ended, and the next one has the other address.
"""

import json
import os
import signal
import time
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

from dmvpn.errors import Fault, WrongInput
from dmvpn.lab import sessions
from dmvpn.lab.topology import LeaseServer, Session
from dmvpn.linux import files, process
from dmvpn.linux.pace import patience

LEASE_S = 120  # the least dnsmasq gives
ASK_AGAIN_S = 3  # so soon does a client notice that it was moved
_PLACE = Path("/run/lab-leases")
_START_LIMIT_S = 20.0


def start(server: LeaseServer) -> None:
    """Call it in the node. Returns once it serves."""
    _serve(server, 0)


def renumber(link: str) -> IPv4Address:
    """Give the uplink its next address, and after the last the first again; returns it. Call it in the node."""
    place = _PLACE / link / "server.json"
    if not place.exists():
        raise WrongInput(link, "its address is not leased", "name an uplink with dhcp: true or pppoe")
    known = json.loads(place.read_text())
    server = LeaseServer(
        link=link,
        device=known["device"],
        gateway=IPv4Address(known["gateway"]),
        leases=tuple(IPv4Interface(lease) for lease in known["leases"]),
        mtu_octets=known["mtu_octets"],
        session=None if known.get("session") is None else Session(*known["session"]),
    )
    if len(server.leases) < 2:
        raise WrongInput(link, "there is one address to give", f"write two: lab.uplinks.{link}.leases")
    number = (known["number"] + 1) % len(server.leases)
    _serve(server, number)
    given: IPv4Address = server.leases[number].ip
    return given


def _serve(server: LeaseServer, number: int) -> None:
    place = _PLACE / server.link
    place.mkdir(parents=True, exist_ok=True)
    pid_file = place / "pid"
    _end(pid_file)
    lease, session = server.leases[number], server.session
    said = {
        "device": server.device,
        "gateway": str(server.gateway),
        "leases": [str(one) for one in server.leases],
        "mtu_octets": server.mtu_octets,
        "number": number,
        "session": None if session is None else [session.user, session.password],
    }
    files.write_secret(place / "server.json", json.dumps(said))
    if session is None:
        argv, package = _command(server, lease, place), "dnsmasq-base"
    else:
        argv, package = sessions.command(server, session, lease, place), sessions.PACKAGE
    process.run(argv, timeout_s=_START_LIMIT_S, package=package)


def _command(server: LeaseServer, lease: IPv4Interface, place: Path) -> tuple[str, ...]:
    (place / "leases").unlink(missing_ok=True)  # it would keep the address for whom it knows
    (place / "dnsmasq.conf").write_text("\n".join(_lines(server, lease, place)) + "\n")
    return ("dnsmasq", f"--conf-file={place / 'dnsmasq.conf'}")


def _lines(server: LeaseServer, lease: IPv4Interface, place: Path) -> list[str]:
    return [
        "port=0",  # no DNS
        f"interface={server.device}",
        "bind-dynamic",
        "user=root",
        "group=root",
        f"pid-file={place / 'pid'}",
        f"dhcp-leasefile={place / 'leases'}",
        f"log-facility={place / 'log'}",
        "no-ping",
        "dhcp-authoritative",  # whoever asks for an address that was another's is refused at once
        f"dhcp-range={lease.ip},{lease.ip},{lease.netmask},{LEASE_S}",
        f"dhcp-option=option:router,{server.gateway}",
        f"dhcp-option=option:mtu,{server.mtu_octets}",
        f"dhcp-option=option:T1,{ASK_AGAIN_S}",
        # A refusal is sent to all, RFC 2131 4.3.2, where a client that asks the server alone does not listen.
        f"dhcp-option=option:T2,{2 * ASK_AGAIN_S}",
        "dhcp-option=option:dns-server,192.0.2.53",  # which nobody is to take for the router's own
    ]


def _end(pid_file: Path) -> None:
    try:
        pid = int(pid_file.read_text())
        descriptor = os.pidfd_open(pid)
    except (OSError, ValueError):
        return
    try:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        deadline = time.monotonic() + patience(_START_LIMIT_S)
        while Path(f"/proc/{pid}").exists():
            if time.monotonic() > deadline:
                raise Fault(str(pid_file), f"process {pid} did not end")
            time.sleep(0.01)
    finally:
        os.close(descriptor)
