"""charon of both routers, as a router runs it: rendered files, certificates, and a connection such as dmvpnd loads."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from bench.namespaces import Node, Stage, wait_for
from dmvpn.identity import authority
from dmvpn.linux.socket_buffers import enlarge_udp
from dmvpn.linux.vici_client import PeerConnection, ViciSession
from dmvpn.network.compile import compile_plan
from dmvpn.network.loading import load
from dmvpn.network.plan import Plan, Plane
from dmvpn.operations.pki import claims_of
from dmvpn.render import strongswan
from dmvpn.render.layout import Layout
from dmvpn.render.result import Rendered

NETWORK = """
version: 1
network: acme
domain: example.net
prefixes: [10.0.0.0/8]
transport: 100.64.0.0/16
clouds:
  blue: {overlay: [10.255.1.0/24], gre-key: 1, phase: 3, routing: bgp}
sites:
  a:
    asn: 65001
    networks: {lan: {port: lan, prefix: 10.1.1.0/24}}
    routers:
      router-a:
        transport: 100.64.0.1
        uplinks: {wan: {port: wan, address: [192.0.2.1/24], gateway: [192.0.2.2]}}
        tunnels: {blue: {role: hub, address: [10.255.1.1]}}
  b:
    asn: 65002
    networks: {lan: {port: lan, prefix: 10.1.2.0/24}}
    routers:
      router-b:
        transport: 100.64.0.2
        uplinks: {wan: {port: wan, address: [192.0.2.2/24], gateway: [192.0.2.1]}}
        tunnels: {blue: {address: [10.255.1.2]}}
"""
_CONNECTION = "peer"
_PEER = "192.0.2.2"
_KEYS = ("x509", "x509ca", "private")


@dataclass(frozen=True, slots=True)
class Below(Layout):
    """A router's paths, below a directory of the stage instead of the host's own."""

    directory: PurePosixPath

    @property
    def etc(self) -> PurePosixPath:
        return self.directory / "etc"

    @property
    def run(self) -> PurePosixPath:
        return self.directory / "run"

    @property
    def state(self) -> PurePosixPath:
        """A hub of an earlier run must not be remembered."""
        return self.directory / "state"


def plans(stage: Stage, plane: Plane) -> dict[Node, Plan]:
    """Both routers' Plans on machines that have this plane."""
    file = load(NETWORK, "bench")
    routers = (stage.router_a, stage.router_b)
    return {node: compile_plan(file, node.name, planes=(plane,), secrets={}) for node in routers}


def connect(stage: Stage, plane: Plane = Plane.USERSPACE) -> None:
    """Start both charons and have the first call the second; returns when the SA carries packets."""
    planned = plans(stage, plane)
    now = datetime.now(UTC)
    plan = planned[stage.router_a]
    ca, ca_key = authority.create_authority(plan.network, plan.transport_range, now=now)
    layouts = {}
    for node, plan in planned.items():
        layouts[node] = Below(plan.network, PurePosixPath(stage.directory / node.name))
        certificate, key = authority.issue(ca, ca_key, claims_of(plan), plan.ike.identity, now=now)
        _write_keys(layouts[node], ca, certificate, key or b"")
        _start(stage, node, plan, layouts[node])
    _call(planned[stage.router_a], layouts[stage.router_a], planned[stage.router_b])


def write_files(rendered: Rendered, directory: Path) -> tuple[Path, ...]:
    paths = tuple(directory / file.path for file in rendered.files)
    for path, file in zip(paths, rendered.files, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.text)
    return paths


def _write_keys(layout: Layout, ca: bytes, certificate: bytes, key: bytes) -> None:
    for name in _KEYS:
        Path(layout.swanctl_dir / name).mkdir(parents=True)
    Path(layout.pki / "ca.pem").write_bytes(ca)
    Path(layout.pki / "router.pem").write_bytes(certificate)
    Path(layout.swanctl_dir / "private" / "router.key").write_bytes(key)


def _start(stage: Stage, node: Node, plan: Plan, layout: Layout) -> None:
    rendered = strongswan.render(plan, layout)
    write_files(rendered, Path(layout.current))
    Path(layout.charon_run).mkdir(parents=True)
    (unit,) = rendered.units
    log = stage.directory / f"charon-{node.name}.log"
    node.start(
        "charon",
        unit.argv,
        log,
        dict(unit.environment),
        binds=tuple((Path(source), Path(place)) for source, place in unit.binds),
    )
    wait_for(Path(layout.vici_socket).exists, f"charon of {node.name}")
    with ViciSession(Path(layout.vici_socket)) as session:
        session.load_all(Path(layout.current / strongswan.SWANCTL_FILE), Path(layout.swanctl_dir))
        enlarge_udp(session.peer_pid())


def _call(plan: Plan, layout: Layout, peer: Plan) -> None:
    ike = plan.ike
    connection = PeerConnection(
        name=_CONNECTION,
        local_port=ike.nat_port,
        remote_address=_PEER,
        remote_port=ike.nat_port,
        remote_identity=None,
        local_identity=ike.identity,
        certificate=Path(layout.pki / "router.pem"),
        authority=Path(layout.pki / "ca.pem"),
        local_ts=f"{plan.transport}/32[gre]",
        remote_ts=f"{peer.transport}/32[gre]",
        ike_proposal=ike.ike_proposal,
        esp_proposal=ike.esp_proposal,
        rekey_s=ike.rekey_s,
        dpd_delay_s=ike.dpd_delay_s,
    )
    with ViciSession(Path(layout.vici_socket)) as session:
        session.load_conn(connection)
        session.initiate(_CONNECTION)
        wait_for(lambda: _carries(session), "the SA of the two routers")


def _carries(session: ViciSession) -> bool:
    return any(child.state == "INSTALLED" for sa in session.list_sas() for child in sa.children)
