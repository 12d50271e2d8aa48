"""pppd for each uplink that is a PPPoE session: pppd(8) with its plugin pppoe, RFC 2516. Nothing for other uplinks.

The options have the password, so the file is for root alone; no chap-secrets of the host's is touched. The default
route is ours to make, since pppd before 2.5 knows no metric: pppd sees our ip-up in place of the host's, whose scripts
would write resolv.conf.
"""

from collections.abc import Iterator
from pathlib import PurePosixPath

from dmvpn.errors import Fault
from dmvpn.network.plan import Plan, Pppoe, Uplink
from dmvpn.render.layout import Layout
from dmvpn.render.result import Change, File, Needs, Rendered, Unit, ours
from dmvpn.render.words import word

NAME = "pppd"
DIRECTORY = PurePosixPath("ppp")
PPP = PurePosixPath("/dev/ppp")
ECHO_S = 5  # the ISP is asked whether it is there; three misses end the session
ECHO_MISSES = 3
AGAIN_S = 3
_IP_UP = DIRECTORY / "ip-up"
_IP_UP_INSIDE = PurePosixPath("/etc/ppp/ip-up")
# Its words are pppd's: the device, then tty, speed, both addresses, and what `ipparam` says.
_IP_UP_TEXT = """#!/bin/sh
exec ip route replace default dev "$1" proto dhcp metric "$6"
"""


def render(plan: Plan, layout: Layout) -> Rendered:
    sessions = tuple((uplink, uplink.pppoe) for uplink in plan.uplinks if uplink.pppoe is not None)
    if not sessions:
        return Rendered(NAME, ())
    options = tuple(
        File(_path(uplink), "\n".join(_lines(uplink, pppoe)) + "\n", mode=0o600) for uplink, pppoe in sessions
    )
    return Rendered(
        engine=NAME,
        files=(*options, File(_IP_UP, _IP_UP_TEXT, mode=0o755)),
        checks=tuple(ours("dmvpn.linux.pppd_check", file) for file in options),
        units=tuple(_unit(plan, uplink, layout) for uplink, _ in sessions),
    )


def _path(uplink: Uplink) -> PurePosixPath:
    return DIRECTORY / f"{word(uplink.name, 'uplink')}.options"


def _lines(uplink: Uplink, pppoe: Pppoe) -> Iterator[str]:
    yield "plugin pppoe.so"
    yield f"nic-{word(uplink.carrier, 'device')}"
    yield f"user {_quoted(pppoe.user)}"
    yield f"password {_quoted(pppoe.password.decode('ascii'))}"
    yield f"ifname {word(uplink.device, 'device')}"
    yield f"ipparam {uplink.metric}"
    yield f"mtu {uplink.mtu_octets}"
    yield f"mru {uplink.mtu_octets}"
    yield from ("nodetach", "persist", "maxfail 0", f"holdoff {AGAIN_S}", "logfd 2", "hide-password")
    yield from (f"lcp-echo-interval {ECHO_S}", f"lcp-echo-failure {ECHO_MISSES}")
    # The ISP proves nothing to us, and says which address we have. Its name servers are not asked for.
    yield from ("noauth", "noipdefault", "nodefaultroute", "noipv6", "noproxyarp")
    yield from ("default-asyncmap", "noaccomp", "nopcomp", "novj", "noccp")


def _quoted(text: str) -> str:
    """One word of an options file, pppd(8) "Options files". Raises Fault for what cannot be in one."""
    if not text.isascii() or not text.isprintable():
        raise Fault("pppoe", "the user name or password is not printable ASCII")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _unit(plan: Plan, uplink: Uplink, layout: Layout) -> Unit:
    path = _path(uplink)
    own = f"ppp-{word(uplink.name, 'uplink')}"
    return Unit(
        name=f"dmvpn-{plan.network}-{own}",
        argv=("pppd", "file", str(layout.current / path)),
        package="ppp",
        # Its pid file, lock and data base are the session's own.
        binds=((layout.current / _IP_UP, _IP_UP_INSIDE), (layout.run / own, PurePosixPath("/run"))),
        reads=(path, _IP_UP),
        on_change=Change.RESTART,
        needs=Needs(
            capabilities=("NET_ADMIN", "NET_RAW"),
            families=("UNIX", "NETLINK", "INET", "INET6", "PACKET", "PPPOX"),
            devices=(PPP,),
        ),
    )
