"""What of a router's links others are told: the switch at it, and what else sets links on its machine."""

from collections.abc import Callable, Mapping
from enum import StrEnum

from dmvpn.network import cabling as network_cabling
from dmvpn.network.cabling import Cabling
from dmvpn.network.plan import Plan
from dmvpn.operations import reading
from dmvpn.operations.reading import NetworkFile
from dmvpn.render import links_ifupdown, links_networkd
from dmvpn.render.result import File

__all__ = ["Cabling", "Files", "cabling", "files"]


class Files(StrEnum):
    """Whose files: to make the links, or to keep hands off those that apply makes."""

    NETWORKD = "systemd-networkd"
    IFUPDOWN = "ifupdown-ng"
    HANDS_OFF = "hands-off"


_MADE_BY: Mapping[Files, Callable[[Plan], tuple[File, ...]]] = {
    Files.NETWORKD: links_networkd.files,
    Files.IFUPDOWN: links_ifupdown.files,
    Files.HANDS_OFF: links_networkd.hands_off,
}


def cabling(file: NetworkFile, router: str) -> Cabling:
    """Raises WrongInput for a router that is unknown or not ours."""
    return network_cabling.cabling(reading.plan_without_secrets(file, router))


def files(file: NetworkFile, router: str, whose: Files) -> tuple[File, ...]:
    """Relative to the machine's root. Raises as `cabling` does."""
    return _MADE_BY[whose](reading.plan_without_secrets(file, router))
