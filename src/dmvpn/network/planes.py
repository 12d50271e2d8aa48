"""Which data plane a router uses: one for all its clouds, because one charon serves them all."""

from collections.abc import Sequence

from dmvpn.network.model import Network, PlaneChoice, Router
from dmvpn.network.plan import Plane


def chosen_plane(network: Network, router: Router, available: Sequence[Plane]) -> Plane:
    """What the file forces for one of the router's clouds; else kernel where it is available; else userspace."""
    choices = [network.clouds[cloud].plane for cloud in router.tunnels if cloud in network.clouds]
    forced = [choice for choice in choices if choice is not PlaneChoice.AUTO]
    if forced:
        return Plane(forced[0].value)
    return Plane.KERNEL if Plane.KERNEL in available else Plane.USERSPACE
