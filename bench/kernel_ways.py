"""The kernel plane as a router has it, beside bare kernel GRE with ESP set by hand: same stage, same cipher, in turns.

Bare: an mGRE device, one SA in each direction, one policy in each direction. The plane: the same path as `dmvpn apply`
makes it, with charon's SAs and table, XFRM's block policies, and the rule set with its guards, log, sets and MSS clamp.
dmvpnd has no part in the path of a packet; what it sets for the peer (neighbour entry, way to transport addresses) is
set here. Two more ways are the plane without parts of what keeps it closed: what these cost.

All devices receive with GRO, as network cards do and a veth does not of itself; between the routers each packet passes
it, as one that a card receives, because the other end does not segment (veth_skb_is_eligible_for_gro in the kernel).
"""

import json
import sys
from pathlib import Path, PurePosixPath
from typing import Final

from bench import secure
from bench.namespaces import MTU_OCTETS, Node, Stage
from bench.secure import Below
from bench.ways import Way
from dmvpn.network.plan import Plan, Plane
from dmvpn.render import interfaces, nftables
from dmvpn.render.strongswan import CHARON

_BARE: Final = "gre1"
_PLANE: Final = "acme-blue"
_KEY: Final = "0x" + "5a" * 36  # AES-256 and the salt of RFC 4106
_START_S: Final = 300.0
_LEAD: Final = """
import sys
from ipaddress import ip_address, ip_network
from dmvpn.linux.transport_routes import TransportRoutes
TransportRoutes(ip_network(sys.argv[1]), 79, ip_address(sys.argv[2]), (sys.argv[3],)).install()
"""


def _sides(stage: Stage) -> tuple[tuple[int, int, Node], tuple[int, int, Node]]:
    return (1, 2, stage.router_a), (2, 1, stage.router_b)


def _towards(router: Node, device: str, peer: int) -> None:
    router.ip(f"neigh replace 10.255.1.{peer} lladdr 100.64.0.{peer} dev {device} nud permanent")
    router.ip(f"route replace 10.1.{peer}.0/24 via 10.255.1.{peer} dev {device} onlink")


def _receive_offload(stage: Stage) -> None:
    for node in stage.nodes:
        node.run((sys.executable, "-m", "bench.offload", "gro", *stage.devices(node)))
    for router in (stage.router_a, stage.router_b):
        router.run((sys.executable, "-m", "bench.offload", "card", "wan"))


def _bare(stage: Stage) -> None:
    _receive_offload(stage)
    for own, peer, router in _sides(stage):
        router.ip(f"address add 100.64.0.{own}/32 dev lo")
        router.ip(f"route add 100.64.0.{peer}/32 via 192.0.2.{peer} src 100.64.0.{own}")
        for source, target in ((own, peer), (peer, own)):
            ends = f"src 192.0.2.{source} dst 192.0.2.{target}"
            aead = f"aead rfc4106(gcm(aes)) {_KEY} 128"
            router.ip(f"xfrm state add {ends} proto esp spi 0x{source}000 reqid 1 mode tunnel {aead}")
            selector = f"src 100.64.0.{source}/32 dst 100.64.0.{target}/32 proto gre"
            direction = "out" if source == own else "in"
            router.ip(f"xfrm policy add {selector} dir {direction} tmpl {ends} proto esp reqid 1 mode tunnel")
        router.ip(f"link add {_BARE} type gre key 1 ttl 64 tos inherit")
        router.ip(f"link set {_BARE} mtu {MTU_OCTETS} up")
        router.ip(f"address add 10.255.1.{own}/24 dev {_BARE}")
        _towards(router, _BARE, peer)


def _plane(stage: Stage) -> None:
    _receive_offload(stage)
    plans = secure.plans(stage, Plane.KERNEL)
    for _own, peer, router in _sides(stage):
        layout = Below(plans[router].network, PurePosixPath(stage.directory / router.name))
        for part in (interfaces, nftables):
            secure.write_files(part.render(plans[router], layout), Path(layout.current))
        Path(layout.run).mkdir(parents=True, exist_ok=True)
        apply = ("dmvpn.linux.netstate", "apply", str(layout.current / interfaces.FILE))
        router.run((sys.executable, "-m", *apply), timeout_s=_START_S)
        router.run(("nft", "-f", str(layout.current / nftables.FILE)))
        router.ip(f"link set {_PLANE} mtu {MTU_OCTETS}")
        _towards(router, _PLANE, peer)
        _led(router, plans[router])
    secure.connect(stage, Plane.KERNEL)


def _led(router: Node, plan: Plan) -> None:
    """As dmvpnd does: without this route no policy is looked up, and GRE ends as a loop."""
    router.run((sys.executable, "-c", _LEAD, str(plan.transport_range), str(plan.transport), _PLANE))


def _without_rules(stage: Stage) -> None:
    _plane(stage)
    for _own, _peer, router in _sides(stage):
        router.run(("nft", "flush", "ruleset"))


def _without_both(stage: Stage) -> None:
    _without_rules(stage)
    for _own, _peer, router in _sides(stage):
        file = next(Path(stage.directory / router.name).rglob(interfaces.FILE))
        document = json.loads(file.read_text())
        file.write_text(json.dumps({**document, "policies": []}))
        router.run((sys.executable, "-m", "dmvpn.linux.netstate", "apply", str(file)), timeout_s=_START_S)


_NEEDS: Final = ((CHARON, "strongswan-charon"), ("swanctl", "strongswan-swanctl"), ("nft", "nftables"))
WAYS: Final = (
    Way("bare", "kernel GRE and ESP by hand, AES-256-GCM", _bare),
    Way(
        "kernel plane",
        "the same as a router has it: charon, block policies, the whole rule set",
        _plane,
        _NEEDS,
    ),
    Way("without rules", "the plane with its rule set flushed", _without_rules, _NEEDS),
    Way("without both", "and without XFRM policies that block", _without_both, _NEEDS),
)
