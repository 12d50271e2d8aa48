"""FRR's files of a router, as lines, and a site whose two hubs are in a cloud each."""

from dmvpn.network.compile import compile_plan
from dmvpn.network.loading import load
from dmvpn.network.plan import Plan, Plane
from dmvpn.render import frr
from dmvpn.render.layout import Layout

_BESIDE = """
version: 1
network: acme
domain: example.net
prefixes: [10.0.0.0/8, "fd00::/16"]
clouds:
  blue: {overlay: [10.255.1.0/24, "fd00:255:1::/64"], gre-key: 1, bandwidth: 100M}
  green: {overlay: [10.255.2.0/24, "fd00:255:2::/64"], gre-key: 2, routing: ROUTING, bandwidth: 10MMORE}
sites:
  hq:
    asn: 65000
    networks: {lan: {port: eth1, prefix: [10.1.0.0/24, "fd00:1:10::/64"]}}
    routers:
      hq1:
        uplinks: {wan: {port: eth0, address: [192.0.2.2/30], gateway: [192.0.2.1]}}
        tunnels: {blue: {role: hub, address: [10.255.1.1, "fd00:255:1::1"]}}
        addresses: {lan: [10.1.0.2, "fd00:1:10::2"]}
      hq2:
        uplinks: {wan: {port: eth0, address: [192.0.2.6/30], gateway: [192.0.2.5]}}
        tunnels: {green: {role: hub, address: [10.255.2.1, "fd00:255:2::1"]}}
        addresses: {lan: [10.1.0.3, "fd00:1:10::3"]}
"""


def beside(routing: str, more: str = "") -> str:
    """A cloud of BGP and, at the second hub, one of another protocol."""
    return _BESIDE.replace("ROUTING", routing).replace("MORE", more)


def of(router: str, text: str, plane: Plane = Plane.USERSPACE) -> Plan:
    return compile_plan(load(text, "network.yaml"), router, planes=(plane,))


def lines(plan: Plan, file: str) -> list[str]:
    (found,) = [one for one in frr.render(plan, Layout(plan.network)).files if str(one.path) == file]
    return found.text.splitlines()


def files(plan: Plan) -> set[str]:
    return {str(file.path) for file in frr.render(plan, Layout(plan.network)).files}
