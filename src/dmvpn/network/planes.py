"""Which data plane a router uses: one for all its clouds, because one charon serves them all."""

from collections.abc import Sequence

from dmvpn.network.model import Network, PlaneChoice, Router
from dmvpn.network.plan import Plane


def chosen_plane(network: Network, router: Router, available: Sequence[Plane]) -> Plane:
    """What the file forces; else kernel where it is available and every cloud has a key; else userspace."""
    forced = forced_plane(network, router)
    if forced is not None:
        return forced
    # The kernel's own gre0 is the mGRE device without a key, and there is one only.
    keyed = all(network.clouds[cloud].gre_key is not None for cloud in router.tunnels if cloud in network.clouds)
    return Plane.KERNEL if Plane.KERNEL in available and keyed else Plane.USERSPACE


def forced_plane(network: Network, router: Router) -> Plane | None:
    """The plane that the file names: at the router, else at one of its clouds; None where the machine decides."""
    choices = [network.clouds[cloud].plane for cloud in router.tunnels if cloud in network.clouds]
    if router.plane is not None:
        choices = [router.plane]
    named = [choice for choice in choices if choice is not PlaneChoice.AUTO]
    return Plane(named[0].value) if named else None
