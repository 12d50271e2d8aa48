"""gre.json and the process that carries the userspace plane. It reads nothing else and outlives dmvpnd."""

from typing import Any

from dmvpn.network.plan import Plan, Plane
from dmvpn.render.layout import Layout
from dmvpn.render.result import TUN, Change, File, Needs, Rendered, Unit, ours
from dmvpn.render.words import as_json, word

NAME = "gre"
FILE = "gre.json"


def render(plan: Plan, layout: Layout) -> Rendered:
    """The tunnels of the userspace plane; nothing when every cloud is on the kernel's."""
    clouds = tuple(cloud for cloud in plan.clouds if cloud.plane is Plane.USERSPACE)
    if not clouds:
        return Rendered(engine=NAME, files=())
    path = layout.current / FILE
    document: dict[str, Any] = {
        "version": 1,
        "network": plan.network,
        "bind_device": word(plan.registry.ipsec_device, "device"),
        "local": str(plan.transport),
        "control": str(layout.gre_socket),
        "tunnels": [
            {"device": word(cloud.device, "device"), "key": cloud.gre_key, "ttl": cloud.ttl, "tos": "inherit"}
            for cloud in clouds
        ],
    }
    file = File(path.relative_to(layout.current), as_json(document))
    return Rendered(
        engine=NAME,
        files=(file,),
        checks=(ours("dmvpn.plane.settings", file),),
        units=(
            Unit(
                name=f"dmvpn-{plan.network}-gre",
                argv=("dmvpn-gre", str(path)),
                package="opendmvpn",
                ready=layout.gre_socket,
                reads=(file.path,),
                on_change=Change.RESTART,
                # SETPCAP: to drop the rest by itself, whoever started it.
                needs=Needs(
                    capabilities=("NET_RAW", "NET_ADMIN", "SETPCAP"),
                    families=("UNIX", "NETLINK", "INET", "INET6", "PACKET"),
                    devices=(TUN,),
                ),
            ),
        ),
    )
