"""A foreign router that runs FRR's nhrpd: any Linux, or VyOS from 1.5 on. FRR manual, "NHRP", "BGP", "OSPFv2".

Written as its administrator would: a configuration of its own, not a copy of ours, so that what works with it works
with theirs. Needs GRE and ESP in the kernel; IPsec is charon's trap policy, so nhrpd itself knows nothing of it. nhrpd
wants a host address on the tunnel. Releases differ: AUTHENTICATION_SINCE, MANAGED_SINCE.
"""

from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import PurePosixPath

from dmvpn.errors import Fault
from dmvpn.network.plan import Address, Cloud, ForeignPlan, Role
from dmvpn.render import frr_ospf
from dmvpn.render.result import Check, File, Rendered, Unit
from dmvpn.render.words import header, word

NAME = "frr-nhrpd"
ETC = PurePosixPath("/etc/dmvpn-foreign")  # the files stand here; frr must be able to read them
RUN = PurePosixPath("/run/frr")
ZAPI = RUN / "zserv.api"
FRR = PurePosixPath("/usr/lib/frr")
USER = "frr"

Release = tuple[int, int]
AUTHENTICATION_SINCE: Release = (10, 1)  # ip nhrp authentication; an older one refuses the line
MANAGED_SINCE: Release = (10, 0)  # staticd takes no file any more: mgmtd configures it, and is told by vtysh
OLDEST: Release = (8, 4)

# One NFLOG group of each kind serves all tunnels of an nhrpd.
REDIRECT_GROUP, MULTICAST_GROUP = 1, 2
CONNECT_RETRY_S = 2
NETWORK_BATCH, NFT_FILE = "network.batch", "nhrp.nft"
STRONGSWAN_FILE, SWANCTL_FILE = "strongswan.conf", "swanctl.conf"
VICI = "/run/dmvpn-foreign.vici"  # not where nhrpd looks: it wants a patched charon, and says so every 2 s


def render(plan: ForeignPlan, release: Release = OLDEST) -> Rendered:
    """Files for ETC and the programs in the order in which this release of FRR starts them.

    Raises Fault for a router without a fixed address.
    """
    encrypted = any(cloud.encrypted for cloud in plan.clouds)
    daemons = _daemons(plan)
    files = [
        File(PurePosixPath(NETWORK_BATCH), "".join(f"{line}\n" for line in _network(plan))),
        File(PurePosixPath(NFT_FILE), "".join(f"{line}\n" for line in _rules(plan))),
        *(File(PurePosixPath(f"{daemon}.conf"), text) for daemon, text in daemons.items()),
    ]
    units = [
        _once("network", ("ip", "-batch", str(ETC / NETWORK_BATCH)), "iproute2"),
        _once("nft", ("nft", "-f", str(ETC / NFT_FILE)), "nftables"),
        _once("frr-run", ("install", "-d", "-o", USER, "-g", USER, "-m", "0755", str(RUN)), "coreutils"),
    ]
    if encrypted:
        files += [
            File(PurePosixPath(STRONGSWAN_FILE), _strongswan()),
            File(PurePosixPath(SWANCTL_FILE), _swanctl(plan)),
        ]
        units += _charon()
    own_files = [_frr(daemon, _file(daemon)) for daemon in daemons]
    units += _managed(tuple(daemons)) if release >= MANAGED_SINCE else own_files
    checks = tuple(Check(("vtysh", "-C", "-f", f"{{tree}}/{daemon}.conf"), package="frr") for daemon in daemons)
    return Rendered(NAME, tuple(files), checks, tuple(units))


def _once(name: str, argv: tuple[str, ...], package: str, environment: tuple[tuple[str, str], ...] = ()) -> Unit:
    return Unit(name=name, argv=argv, package=package, daemon=False, environment=environment)


def _managed(daemons: tuple[str, ...]) -> list[Unit]:
    """mgmtd before those that call it; staticd's lines when both are there."""
    lines = ("vtysh", "-d", "mgmtd", "-f", str(ETC / "staticd.conf"))
    return [
        _frr("mgmtd", (), zapi=()),
        *(_frr(daemon, () if daemon == "staticd" else _file(daemon)) for daemon in daemons),
        _once("static-routes", lines, "frr"),
    ]


def _file(daemon: str) -> tuple[str, ...]:
    return "-f", str(ETC / f"{daemon}.conf")


def _frr(daemon: str, file: tuple[str, ...], zapi: tuple[str, ...] = ("-z", str(ZAPI))) -> Unit:
    argv = (
        *(str(FRR / daemon), *file, "-i", str(RUN / f"{daemon}.pid"), *zapi),
        *("-u", USER, "-g", USER, "--vty_socket", str(RUN), "-P", "0", "--log", "stdout"),
    )
    ready = ZAPI if daemon == "zebra" else RUN / f"{daemon}.vty"
    return Unit(name=daemon, argv=argv, package="frr", ready=ready)


def _charon() -> list[Unit]:
    conf = (("STRONGSWAN_CONF", str(ETC / STRONGSWAN_FILE)), ("SWANCTL_DIR", str(ETC)))
    load = ("swanctl", "--load-all", "--file", str(ETC / SWANCTL_FILE), "--uri", f"unix://{VICI}")
    return [
        Unit("charon", ("/usr/lib/ipsec/charon",), "strongswan-charon", environment=conf, ready=PurePosixPath(VICI)),
        _once("swanctl", load, "strongswan-swanctl", conf),
    ]


def _daemons(plan: ForeignPlan) -> dict[str, str]:
    """Each FRR daemon's file, in starting order."""
    top = [header(plan.network, plan.router, "!"), f"hostname {word(plan.router, 'router')}"]
    bodies = {"zebra": [], "staticd": list(_static(plan)), "nhrpd": list(_nhrpd(plan))}
    if any(cloud.bgp is not None for cloud in plan.clouds):
        bodies["bgpd"] = list(_bgpd(plan))
    texts = {daemon: "\n".join([*top, *body, ""]) for daemon, body in bodies.items()}
    if frr_ospf.spoken(plan):
        texts["ospfd"] = frr_ospf.conf(plan)
    return texts


def _underlay(cloud: Cloud) -> Address:
    if cloud.underlay_address is None:
        raise Fault(f"clouds.{cloud.name}", "a foreign router needs a fixed underlay address", "write address:")
    return cloud.underlay_address


def _network(plan: ForeignPlan) -> Iterator[str]:
    """ip-batch(8): the mGRE device bound to the underlay address, a host address on it."""
    for cloud in plan.clouds:
        device = word(cloud.device, "device")
        key = "" if cloud.gre_key is None else f" key {cloud.gre_key}"
        own = next((ip for up in plan.uplinks for ip in (a.ip for a in up.addresses)), _underlay(cloud))
        yield f"link add {device} type gre{key} ttl {cloud.ttl} local {own}"
        yield f"link set {device} mtu {cloud.mtu_octets} up"
        yield from (f"address add {ip_network(address)} dev {device}" for address in cloud.addresses)


def _rules(plan: ForeignPlan) -> Iterator[str]:
    """What nhrpd is told of by NFLOG: a packet that leaves as it came, and what has to go to many."""
    yield "table inet nhrp {"
    yield " chain forward {"
    yield "  type filter hook forward priority filter"
    for number, cloud in enumerate(plan.clouds):
        device = word(cloud.device, "device")
        if cloud.nhrp.redirect:
            pair = "ip saddr & 255.255.255.0 . ip daddr & 255.255.255.0"
            limit = "timeout 1m limit rate 4/minute burst 1 packets"
            meter = f"meter flows{number} size 65535 {{ {pair} {limit} }}"
            yield f'  iifname "{device}" oifname "{device}" {meter} log group {REDIRECT_GROUP} snaplen 128'
    yield " }"
    yield " chain output {"
    yield "  type filter hook output priority filter"
    for cloud in plan.clouds:
        device = word(cloud.device, "device")
        yield f'  oifname "{device}" ip daddr 224.0.0.0/24 log group {MULTICAST_GROUP}'
        yield f'  oifname "{device}" ip daddr 224.0.0.0/24 drop'
    yield " }"
    yield "}"


def _nhrpd(plan: ForeignPlan) -> Iterator[str]:
    yield f"nhrp nflog-group {REDIRECT_GROUP}"
    yield f"nhrp multicast-nflog-group {MULTICAST_GROUP}"
    for number, cloud in enumerate(plan.clouds, start=1):
        yield f"interface {word(cloud.device, 'device')}"
        yield f" ip nhrp network-id {number}"
        yield f" ip nhrp holdtime {cloud.nhrp.holding_time_s}"
        if cloud.nhrp.authentication is not None:
            yield f" ip nhrp authentication {word(cloud.nhrp.authentication.decode('ascii', 'replace'), 'secret')}"
        if cloud.nhrp.redirect:
            yield " ip nhrp redirect"
        # Of nhrpd: whoever shall answer a resolution request needs this word too.
        yield " ip nhrp shortcut"
        for hub in cloud.hubs:
            near = hub.overlay[0]
            yield (
                f" ip nhrp map {near} {hub.nbma}" if cloud.role is Role.HUB else f" ip nhrp nhs {near} nbma {hub.nbma}"
            )
            yield f" ip nhrp map multicast {hub.nbma}"
        if cloud.role is Role.HUB:
            yield " ip nhrp map multicast dynamic"
        yield "exit"


def _static(plan: ForeignPlan) -> Iterator[str]:
    """A spoke answers a resolution request by its route to the asker, so it needs one to the whole overlay."""
    for cloud in plan.clouds:
        if cloud.role is Role.SPOKE:
            for overlay in cloud.overlay:
                hubs = (near for hub in cloud.hubs for near in hub.overlay if near.version == overlay.version)
                yield from (f"{'ip' if overlay.version == 4 else 'ipv6'} route {overlay} {near} 250" for near in hubs)


def _bgpd(plan: ForeignPlan) -> Iterator[str]:
    """No filters: what may come in and go out is for us to check, and this shows whether we do."""
    speaking = [(cloud, cloud.bgp) for cloud in plan.clouds if cloud.bgp is not None]
    yield f"router bgp {plan.asn}"
    yield f" bgp router-id {plan.transport}"
    yield " no bgp ebgp-requires-policy"
    yield " no bgp network import-check"
    announced: dict[str, None] = {str(net): None for net in plan.serves if net.version == 4}
    groups: list[str] = []
    for cloud, bgp in speaking:
        if cloud.role is Role.HUB:
            group = f"{word(cloud.name, 'cloud')}-spokes"
            groups.append(group)
            yield f" neighbor {group} peer-group"
            yield f" neighbor {group} remote-as external"
            yield f" neighbor {group} disable-connected-check"
            yield f" neighbor {group} timers {bgp.keepalive_s} {bgp.hold_s}"
            yield from (f" bgp listen range {overlay} peer-group {group}" for overlay in bgp.listen)
            announced |= {str(net): None for net in bgp.announce if net.version == 4}
        for neighbor in bgp.neighbors:
            groups.append(str(neighbor.address))
            yield f" neighbor {neighbor.address} remote-as {neighbor.asn}"
            yield f" neighbor {neighbor.address} disable-connected-check"
            yield f" neighbor {neighbor.address} timers {bgp.keepalive_s} {bgp.hold_s}"
            yield f" neighbor {neighbor.address} timers connect {CONNECT_RETRY_S}"
            yield f" neighbor {neighbor.address} update-source {cloud.addresses[0]}"
    yield " address-family ipv4 unicast"
    yield from (f"  network {prefix}" for prefix in announced)
    yield from (f"  neighbor {group} activate" for group in groups)
    yield " exit-address-family"
    yield "exit"


def _strongswan() -> str:
    plugins = "random nonce x509 revocation constraints pubkey pkcs1 pkcs8 pem openssl kdf drbg"
    lines = [
        "charon {",
        f"  load = {plugins} kernel-netlink socket-default vici",
        "  install_routes = no",
        # A hub that was away is called again within seconds; by default one try takes almost three minutes.
        "  retransmit_timeout = 1.0",
        "  retransmit_base = 1.4",
        "  retransmit_tries = 3",
        "  plugins {",
        "    vici {",
        f"      socket = unix://{VICI}",
        "    }",
        "  }",
        "  filelog {",
        "    stderr {",
        "      default = 1",
        "      flush_line = yes",
        "    }",
        "  }",
        "}",
    ]
    return "\n".join([*lines, ""])


def _swanctl(plan: ForeignPlan) -> str:
    """GRE to whomever makes charon negotiate, and never leaves in clear."""
    ike = plan.ike
    lines = [
        "connections {",
        "  gre {",
        "    version = 2",
        "    remote_addrs = %any",
        f"    proposals = {word(ike.ike_proposal, 'crypto')}",
        f"    dpd_delay = {ike.dpd_delay_s}s",
        "    mobike = no",
        "    local {",
        "      auth = pubkey",
        f"      certs = {ETC}/router.pem",
        f"      id = {word(ike.identity, 'domain')}",
        "    }",
        "    remote {",
        "      auth = pubkey",
        f"      cacerts = {ETC}/ca.pem, {ETC}/foreign-ca.pem",
        "    }",
        "    children {",
        "      gre {",
        "        mode = transport",
        "        local_ts = dynamic[gre]",
        "        remote_ts = dynamic[gre]",
        f"        esp_proposals = {word(ike.esp_proposal, 'crypto')}",
        f"        rekey_time = {ike.rekey_s}s",
        "        dpd_action = clear",
        "        start_action = trap",
        "      }",
        "    }",
        "  }",
        "}",
    ]
    return "\n".join([*lines, ""])
