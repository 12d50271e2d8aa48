"""dmvpnd: registrations with the hubs, who is refused and why, packets that were dropped."""

from collections.abc import Iterator

from dmvpn.daemon.control import CloudRow, HubRow, NodeStatus
from dmvpn.doctor.report import At, Finding, Layer

HERE = At(Layer.NHRP)
# Drops that say that somebody is configured otherwise than we are, or wants what is not his.
TELLING = {
    "nhrp authentication": "packets with another password than ours: compare `nhrp: secret` of both ends",
    "nhrp not-authorised": "packets that claim what the sender's certificate does not allow: see dmvpn status --json",
    "nhrp version": "packets of another version of NHRP",
    "nhrp checksum": "packets with a wrong checksum: something on the way changes them",
}


def nhrp(status: NodeStatus | None, silent: str) -> Iterator[Finding]:
    """`silent` is how dmvpnd does not answer, where there is no status."""
    if status is None:
        yield HERE.failed("dmvpnd", silent, "see the services above; dmvpn run")
        return
    yield HERE.ok("dmvpnd", f"answers, up {status.uptime_s:.0f} s, {status.charon}")
    yield from (_registration(row) for row in status.hubs)
    for cloud in status.clouds:
        if cloud.role == "hub":
            yield _clients(status, cloud)
        yield from _drops(cloud)


def _registration(row: HubRow) -> Finding:
    check = f"registration at {row.router}"
    if row.state == "up":
        rtt = f", RTT {row.rtt_ms:.1f} ms" if row.rtt_ms is not None else ""
        return HERE.ok(check, f"stands in {row.cloud}{rtt}")
    why = row.why or "no reason known yet"
    return HERE.failed(
        check, f"{row.state} in {row.cloud}: {why}", f"dmvpn nhrp watch; and at {row.router}: dmvpn status"
    )


def _clients(status: NodeStatus, cloud: CloudRow) -> Finding:
    rows = [peer for peer in status.peers if peer.cloud == cloud.name and peer.kind == "client"]
    down = [peer.name or peer.overlay for peer in rows if peer.state.value == "down"]
    check = f"registrations in {cloud.name}"
    if down:
        names = ", ".join(sorted(down)[:5]) + (", ..." if len(down) > 5 else "")
        return HERE.warning(check, f"{len(down)} of {len(rows)} are down: {names}", "dmvpn peers; look there")
    return HERE.ok(check, f"{len(rows)} spokes")


def _drops(cloud: CloudRow) -> Iterator[Finding]:
    for reason, what in TELLING.items():
        if count := cloud.drops.get(reason, 0):
            yield HERE.warning(f"drops in {cloud.name}", f"{count} since dmvpnd started", what)
