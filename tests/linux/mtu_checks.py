"""That the computed MTU is the largest that stays one packet, for each plane; the caller is in the pair's near end."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

from ipsec_pair import run
from mtu_pair import OVERLAY, TRANSPORT, UNDERLAY, Pair, set_mtu
from mtu_table import ESPS, IN_A_PROCESSOR, Way

from dmvpn.linux import kernel_facts, namespaces
from dmvpn.linux.pace import patience
from dmvpn.linux.path_probe import EchoProber, Outcome, Probe
from dmvpn.network.plan import Plane

DEVICE = "acme-blue"
WIDE = 9000
OVERLAY6 = ("fd00:255::1", "fd00:255::11")


@contextmanager
def namespace() -> Iterator[None]:
    """A network namespace of our own meanwhile."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    namespaces.unshare(namespaces.CLONE_NEWNET)
    try:
        yield
    finally:
        namespaces.join(Path(f"/proc/self/fd/{home}"))
        os.close(home)


def tunnels(found: Pair) -> None:
    """An mGRE device at both ends as interfaces.py describes it; who is where is set for each kind of ESP."""
    for end, do in enumerate((run, found.at_far)):
        do("ip", "link", "add", DEVICE, "type", "gre", "key", "1", "ttl", "64", "tos", "inherit", "pmtudisc")
        do("ip", "addr", "add", f"{OVERLAY[end]}/24", "dev", DEVICE)
        do("ip", "addr", "add", f"{OVERLAY6[end]}/64", "dev", DEVICE, "nodad")
        do("ip", "link", "set", DEVICE, "up", "mtu", str(WIDE))


def lladdr(way: Way, end: int) -> str:
    """What a neighbour entry says of an end: its transport address, or, in transport mode, that of the underlay."""
    if way.plane is Plane.USERSPACE:
        return "02:00:" + ":".join(f"{octet:02x}" for octet in ip_address(TRANSPORT[end]).packed)
    return (TRANSPORT if way.tunnel_mode else UNDERLAY[4])[end]


def lead(found: Pair, way: Way) -> None:
    for end, do in enumerate((run, found.at_far)):
        for far in (OVERLAY[1 - end], OVERLAY6[1 - end]):
            do("ip", "neigh", "replace", far, "lladdr", lladdr(way, 1 - end), "dev", DEVICE, "nud", "permanent")
        # As transport_routes.py has it; without a limit the tunnel's MTU would limit its own outer packets.
        do("ip", "route", "replace", f"{TRANSPORT[1 - end]}/32", "dev", DEVICE, "src", TRANSPORT[end], "mtu", "65520")


def ready(found: Pair, way: Way) -> None:
    """What a way needs besides charon."""
    if way.plane is Plane.KERNEL:
        tunnels(found)
        lead(found, way)


def proposals(way: Way) -> Iterator[str]:
    """Those that this machine's charon has; each is the pair's only child while it is used."""
    for esp in ESPS:
        if way.plane is Plane.KERNEL or esp not in IN_A_PROCESSOR or kernel_facts.has_aes():
            yield esp


def child(found: Pair, way: Way, esp: str) -> None:
    found.child(esp, mode="tunnel" if way.tunnel_mode else "transport", encap=way.udp)


def check(found: Pair, way: Way, esp: str, underlay: int) -> None:
    (check_kernel if way.plane is Plane.KERNEL else check_userspace)(found, way, esp, underlay)


def check_kernel(found: Pair, way: Way, esp: str, underlay: int) -> None:
    """Pings with DF through the mGRE device, whose kernel comes to the same limit by itself."""
    mtu = way.mtu_octets(esp, underlay)
    found.set_underlay_mtu(underlay)
    prober = EchoProber(ip_address(OVERLAY[1]), source=ip_address(OVERLAY[0]))

    def ping(octets: int, device_mtu: int) -> Outcome:
        set_mtu(DEVICE, device_mtu)
        return prober.send([Probe(octets)], timeout_s=patience(2.0))[Probe(octets)].outcome

    with found.wire() as wire:
        assert ping(mtu, mtu) is Outcome.REACHED, f"{way}, {esp}, {underlay}: {mtu} octets do not pass"
        (packet,) = wire.take(1)
        assert packet.whole
        assert packet.octets == way.underlay_octets(esp, mtu) <= underlay, f"{way}, {esp}"
        assert ping(mtu + 1, mtu) is Outcome.TOO_BIG
        # Were the device wider, the kernel would find that ESP has no room.
        assert ping(mtu + 1, WIDE) is Outcome.TOO_BIG
        assert wire.take(1, 0.05) == []


def check_userspace(found: Pair, way: Way, esp: str, underlay: int) -> None:
    """GRE with DF into charon's device, as dmvpn-gre sends it."""
    mtu = way.mtu_octets(esp, underlay)
    found.set_underlay_mtu(underlay)
    with found.wire() as wire:
        assert found.send_gre(mtu)
        (packet,) = wire.take(1)
        assert packet.whole
        assert packet.may_not_be_fragmented
        assert packet.octets == way.underlay_octets(esp, mtu) <= underlay
        # One octet more does not enter charon's device, or becomes more than one packet.
        assert not found.send_gre(mtu + 1) or not all(one.whole for one in wire.take(2))
