"""A charon that has just started lets peers in, though dmvpnd is not there to load anything."""

from functools import partial
from pathlib import Path

import pytest
from vpn_lab import Vpn, until

from dmvpn.errors import Fault
from dmvpn.linux.vici_client import ViciSession

NETWORK = "trio"
pytestmark = pytest.mark.lab


def _connections(path: Path) -> tuple[str, ...]:
    try:
        with ViciSession(path) as session:
            return session.connections()
    except Fault:
        return ()


def test_a_peer_that_calls_before_dmvpnd_is_there_is_let_in(vpn: Vpn) -> None:
    hub, socket = vpn.node("hq1"), Path(vpn.layout.vici_socket)
    vpn.stop_service("hq1", "dmvpnd")
    try:
        vpn.returned("hq1", "charon", vpn.kill("hq1", "charon"))
        until("charon to know whom it lets in", lambda: hub.call(partial(_connections, socket)), within_s=10)

        def standing() -> bool:
            argv = ("swanctl", "--list-sas", "--uri", f"unix://{socket}")
            return "INSTALLED" in vpn.run("hq1", *argv).text

        until("a spoke's SA", standing, within_s=30)
        assert hub.call(partial(_connections, socket)) == ("own",)
    finally:
        vpn.start_service("hq1", "dmvpnd")
    for router in vpn.routers():
        until(f"{router} is as before", lambda router=router: not vpn.unsettled(router), within_s=60)
