"""daemon.json: what dmvpnd must know. It never reads the network file; like any engine it reads a rendered one."""

from dataclasses import asdict
from pathlib import PurePosixPath
from typing import Any

from dmvpn.network.plan import Cloud, ForeignPeer, Hub, Ike, Plan, Uplink, Vrrp
from dmvpn.render import frr, interfaces
from dmvpn.render.layout import Layout
from dmvpn.render.nftables import used_families, used_set
from dmvpn.render.result import Change, File, Needs, Rendered, Unit, ours
from dmvpn.render.strongswan import SWANCTL_FILE
from dmvpn.render.words import as_json

NAME = "daemon"
FILE = "daemon.json"


def render(plan: Plan, layout: Layout) -> Rendered:
    """The file is readable by root alone: it may carry the NHRP secret."""
    path = layout.current / FILE
    document: dict[str, Any] = {
        "version": 1,
        "network": plan.network,
        "router": plan.router,
        "identity": plan.ike.identity,
        "transport": str(plan.transport),
        "transport_range": str(plan.transport_range),
        "prefixes": [str(prefix) for prefix in plan.prefixes],
        "serves": [str(prefix) for prefix in plan.serves],
        "ike": _ike(plan.ike),
        "registry": {
            "route_protocol": plan.registry.route_protocol,
            "uplink_priority": plan.registry.uplink_priority,
            "uplink_mask": plan.registry.uplink_mask,
            "uplink_tables": plan.registry.uplink_tables,
        },
        "learned_unit": frr.learned_unit(plan.network) if frr.learns(plan) else "",
        "paths": _paths(layout),
        "uplinks": [_uplink(uplink) for uplink in plan.uplinks],
        "ports": interfaces.below(plan),
        "clouds": [_cloud(cloud) for cloud in plan.clouds],
        **({} if plan.vrrp is None else {"vrrp": _vrrp(plan.vrrp, layout)}),
    }
    file = File(path.relative_to(layout.current), as_json(document), mode=0o600)
    return Rendered(
        engine=NAME,
        files=(file,),
        checks=(ours("dmvpn.daemon.settings", file),),
        units=(
            Unit(
                name=f"dmvpn-{plan.network}-dmvpnd",
                argv=("dmvpnd", str(path)),
                package="opendmvpn",
                ready=layout.reading_socket,
                # It loads charon's connections, so it must hear of those too; a restart keeps shortcuts and SAs.
                reads=(file.path, PurePosixPath(SWANCTL_FILE)),
                on_change=Change.RESTART,
                # What it keeps (daemon/main.py), and SETGID and SETPCAP to drop the rest. Namespaces: the rule guard
                # tries the file in force in one, swanctl sees our keys in another. pidfd_getfd(2): charon's sockets.
                needs=Needs(
                    capabilities=("NET_ADMIN", "NET_RAW", "NET_BIND_SERVICE", "CHOWN", "SETFCAP", "SETGID", "SETPCAP"),
                    families=("UNIX", "NETLINK", "INET", "INET6", "PACKET"),
                    writes=(layout.state, layout.pki),  # renewed papers and revocation lists
                    spares=(layout.revisions,),
                    namespaces=("user", "net", "mnt"),
                    calls=("@mount", "pidfd_getfd"),
                ),
            ),
        ),
    )


def _vrrp(vrrp: Vrrp, layout: Layout) -> dict[str, Any]:
    return {
        "track": str(layout.gateway_track),
        "priority": vrrp.priority,
        "gateways": [
            {"network": gateway.network, "device": gateway.device, "address": str(gateway.address.ip)}
            for gateway in vrrp.gateways
        ],
    }


def _uplink(uplink: Uplink) -> dict[str, Any]:
    watch = asdict(uplink.watch)
    watch["targets"] = [{"address": str(one.address), "port": one.port} for one in uplink.watch.targets]
    watch["rule"] = {name: watch.pop(name) for name in ("required", "attempts", "answers")}
    return {
        "name": uplink.name,
        "device": uplink.device,
        "addresses": [str(address) for address in uplink.addresses],
        "gateways": [str(gateway) for gateway in uplink.gateways],
        "public": None if uplink.public is None else str(uplink.public),
        "metric": uplink.metric,
        "table": uplink.table,
        "mark": uplink.mark,
        "weight": uplink.weight,
        "hook": uplink.hook,
        "watch": watch,
    }


def _ike(ike: Ike) -> dict[str, Any]:
    return {
        "ike_proposal": ike.ike_proposal,
        "esp_proposal": ike.esp_proposal,
        "rekey_s": ike.rekey_s,
        "port": ike.port,
        "nat_port": ike.nat_port,
        "dpd_delay_s": ike.dpd_delay_s,
    }


def _paths(layout: Layout) -> dict[str, str]:
    return {
        "vici": str(layout.vici_socket),
        "swanctl_conf": str(layout.current / SWANCTL_FILE),
        "swanctl_dir": str(layout.swanctl_dir),
        "pki": str(layout.pki),
        "gre": str(layout.gre_socket),
        "control": str(layout.control_socket),
        "reading": str(layout.reading_socket),
        "state": str(layout.state),
        "learned": str(layout.learned),
        "frr_run": str(layout.frr_run),
    }


def _cloud(cloud: Cloud) -> dict[str, Any]:
    nhrp = cloud.nhrp
    return {
        "name": cloud.name,
        "device": cloud.device,
        "role": cloud.role.value,
        "plane": cloud.plane.value,
        "routing": cloud.routing.value,
        "gre_key": cloud.gre_key,
        "mtu_octets": cloud.mtu_octets,
        "overlay": [str(overlay) for overlay in cloud.overlay],
        "addresses": [str(address) for address in cloud.addresses],
        "uplinks": list(cloud.uplinks),
        "nflog_group": cloud.nflog_group,
        "multicast_group": cloud.multicast_group,
        "used_sets": [used_set(cloud, family) for family in used_families(cloud)],
        "encrypted": cloud.encrypted,
        "underlay_address": None if cloud.underlay_address is None else str(cloud.underlay_address),
        "foreign": [_foreign(peer) for peer in cloud.foreign],
        "bfd": None if cloud.bfd is None else asdict(cloud.bfd),
        "hubs": [_hub(hub) for hub in cloud.hubs],
        "nhrp": {
            "holding_time_s": nhrp.holding_time_s,
            "registration_s": nhrp.registration_s,
            "authentication": None if nhrp.authentication is None else nhrp.authentication.hex(),
            "phase": nhrp.phase,
            "redirect": nhrp.redirect,
            "shortcut": nhrp.shortcut,
        },
    }


def _foreign(peer: ForeignPeer) -> dict[str, Any]:
    return {
        "router": peer.router,
        "identity": peer.identity,
        "nbma": None if peer.nbma is None else str(peer.nbma),
        "overlay": [str(address) for address in peer.overlay],
        "prefixes": [str(prefix) for prefix in peer.prefixes],
        "asn": peer.asn,
        "role": peer.role.value,
    }


def _hub(hub: Hub) -> dict[str, Any]:
    return {
        "router": hub.router,
        "ours": hub.ours,
        "overlay": [str(address) for address in hub.overlay],
        "nbma": str(hub.nbma),
        "endpoints": [str(endpoint) for endpoint in hub.endpoints],
        "asn": hub.asn,
    }
