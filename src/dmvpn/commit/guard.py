"""Where nothing may be applied: a router of a lab must not write the host's /etc."""

from collections.abc import Callable
from pathlib import Path

from dmvpn.errors import Fault
from dmvpn.linux import files

NAME_LIMIT_OCTETS = 256


def own_etc(lab: str, marker: Path) -> Callable[[], None]:
    """A guard for Transaction. `lab` is the lab this process belongs to, empty for none; `marker` names the lab whose
    /etc this is. Within a lab they must agree.
    """

    def guard() -> None:
        found = files.read_text(marker, limit_octets=NAME_LIMIT_OCTETS).strip() if marker.exists() else ""
        if lab and not found:
            what = f"lab {lab} runs here, but {marker.parent} is the host's"
            raise Fault("apply", what, "enter the router with `dmvpn lab exec ROUTER`")
        if lab and found != lab:
            raise Fault("apply", f"{marker.parent} belongs to lab {found}, not {lab}")

    return guard
