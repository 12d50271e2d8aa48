"""strongSwan: strongswan.conf and swanctl.conf of an instance of our own. strongswan.conf(5), swanctl.conf(5).

The generic connection here lets every router of ours in; connections towards a peer are dmvpnd's, over vici, since
only it knows where the peer is. charon has swanctl.conf loaded as it starts, so who calls then is not refused; later
loads are dmvpnd's (swanctl unloads connections that are not in the file, so dmvpnd's too).
"""

from collections.abc import Iterator
from pathlib import PurePosixPath

from dmvpn.network.plan import Plan, Plane, Registry
from dmvpn.render.layout import Layout
from dmvpn.render.result import TUN, Change, Check, File, Needs, Rendered, Unit
from dmvpn.render.words import header, word

NAME = "strongswan"
STRONGSWAN_FILE = "strongswan.conf"
SWANCTL_FILE = "swanctl.conf"

FOREIGN_CA = "foreign-ca.pem"  # in the directory of keys: who signs for routers that are not ours

CHARON = "/usr/lib/ipsec/charon"

# What the kernel may call charon's TUN: kernel-libipsec asks for ipsec%d, and every network's charon has one.
TUN_NAMES = tuple(f"ipsec{number}" for number in range(8))

# As charon sees it: its /run is Layout.charon_run, in a mount namespace of its own.
VICI_INSIDE = PurePosixPath("/run/charon.vici")

# Likewise, where Debian's AppArmor profiles of charon and swanctl let them read.
STRONGSWAN_INSIDE = PurePosixPath("/etc/strongswan.conf")
SWANCTL_INSIDE = PurePosixPath("/etc/swanctl")
PKI_INSIDE = SWANCTL_INSIDE / "pki"
SWANCTL = "/usr/sbin/swanctl"

# Exactly what is needed, so that a plugin the host has switched on or off elsewhere changes nothing. With "!" charon
# refuses to start without it: addrblock is what ties a peer to its transport address, libipsec what encrypts (on the
# kernel plane the kernel does, told by kernel-netlink).
# x509 stands before openssl, whose certificates know no RFC 3779 blocks.
_HEAD = ("random!", "nonce", "x509!", "revocation", "constraints", "addrblock!", "pubkey", "pkcs1", "pkcs8", "pem")
_CIPHERS = ("openssl!", "kdf", "drbg")
_TAIL = ("socket-default!", "vici!")
PLUGINS = {
    Plane.USERSPACE: (
        *_HEAD,
        "aesni",  # a third faster than openssl for AES-GCM where the processor has it; elsewhere it stays out
        *_CIPHERS,
        "kernel-libipsec!",
        "kernel-netlink",  # for addresses and routes; its IPsec feature must fail beside libipsec
        *_TAIL,
    ),
    Plane.KERNEL: (*_HEAD, *_CIPHERS, "kernel-netlink!", *_TAIL),
}

SWANCTL_PLUGINS = ("random", "x509", "pubkey", "pkcs1", "pkcs8", "pem", "openssl")

# A message is given up 5.2 s after it was first sent: 0.7 s, then 1.2 times longer each time. Long enough for a
# satellite and a lost packet or two; dmvpnd's own probes find a dead path sooner.
RETRANSMIT_S = 0.7
RETRANSMIT_BASE = 1.2
RETRANSMIT_TRIES = 4

# Many spokes share one public address behind a carrier's NAT, and all of them call when a hub comes back; the defaults
# (3 and 5 half-open SAs for each address) are for road warriors. A cookie proves the address, RFC 7296 2.6.
COOKIE_THRESHOLD = 30
COOKIE_THRESHOLD_ADDRESS = 20
BLOCK_THRESHOLD_ADDRESS = 200
HALF_OPEN_LIMIT = 2000
HALF_OPEN_S = 15


_LIBIPSEC = (
    "    kernel-libipsec {",
    # The peer's selector is the address GRE goes to; the mark keeps charon's own packets out of the TUN.
    "      allow_peer_ts = yes",
    "    }",
)


def render(plan: Plan, layout: Layout) -> Rendered:
    """charon's two files and its process."""
    strongswan, swanctl = PurePosixPath(STRONGSWAN_FILE), PurePosixPath(SWANCTL_FILE)
    return Rendered(
        engine=NAME,
        files=(File(strongswan, _strongswan_conf(plan)), File(swanctl, _swanctl_conf(plan))),
        checks=(
            Check(
                ("python3", "-m", "dmvpn.linux.ipsec_check", "{tree}", str(layout.swanctl_dir)),
                package="strongswan-charon",
            ),
        ),
        units=(
            Unit(
                name=f"dmvpn-{plan.network}-charon",
                argv=(CHARON,),
                package="strongswan-charon",
                environment=(("SWANCTL_DIR", str(SWANCTL_INSIDE)),),
                ready=layout.vici_socket,
                binds=(
                    (layout.current / STRONGSWAN_FILE, STRONGSWAN_INSIDE),
                    (layout.swanctl_dir, SWANCTL_INSIDE),
                    (layout.pki, PKI_INSIDE),
                    (layout.current / SWANCTL_FILE, SWANCTL_INSIDE / SWANCTL_FILE),
                    (layout.charon_run, PurePosixPath("/run")),
                ),
                reads=(strongswan,),
                on_change=Change.RESTART,
                needs=Needs(
                    # CHOWN: for its vici socket. All of them are in Debian's profile.
                    capabilities=("NET_ADMIN", "NET_RAW", "NET_BIND_SERVICE", "CHOWN"),
                    families=("UNIX", "NETLINK", "INET", "INET6"),
                    devices=(TUN,),
                    changes_profile=True,
                ),
            ),
        ),
    )


def _load_script() -> str:
    """What charon runs as soon as it serves. The checker's charon has no SWANCTL_DIR."""
    steps = (
        r"test -n \"$SWANCTL_DIR\"",
        f"{SWANCTL} --load-all --noprompt --uri unix://{VICI_INSIDE} --file {SWANCTL_INSIDE / SWANCTL_FILE}",
    )
    return " && ".join(steps)


def _name_script(registry: Registry) -> str:
    """Gives charon's TUN its group and its other name: proc(5) tells of an open file which TUN it is.

    charon is the shell's parent, by the number that /proc knows it by: it may be in a PID namespace below that.
    """
    device = word(registry.ipsec_device, "device")
    steps = (
        "while read -r key pid; do test $key = PPid: && break; done </proc/self/status",
        r"tun=$(sed -n 's/^iff:[[:space:]]*//p' /proc/$pid/fdinfo/* 2>/dev/null || true)",
        r"test -n \"$tun\"",
        rf"ip link property add dev \"$tun\" altname {device}",
        rf"ip link set dev \"$tun\" group {registry.ipsec_group}",
    )
    return " && ".join(steps)


def _routing(plan: Plan) -> tuple[str, ...]:
    """Its TUN needs routes to what is behind it, and a rule that none of its own packets follows. The kernel plane
    needs none, and each rule would cost whatever the router forwards (dmvpn.linux.transport_routes).
    """
    if plan.clouds[0].plane is Plane.KERNEL:
        return "  routing_table = 0", "  install_routes = no"
    return f"  routing_table = {plan.registry.ike_table}", f"  routing_table_prio = {plan.registry.ike_priority}"


def _strongswan_conf(plan: Plan) -> str:
    mark = plan.registry.ike_mark
    mark_text = f"{mark.value:#x}/{mark.mask:#x}"
    # charon must not take an overlay address, its own TUN or a shortcut for a way out.
    plane = plan.clouds[0].plane
    own_device = TUN_NAMES if plane is Plane.USERSPACE else ()
    ignored = ", ".join([*own_device, *(word(cloud.device, "device") for cloud in plan.clouds)])
    lines = [
        header(plan.network, plan.router),
        "charon {",
        f"  load = {' '.join(PLUGINS[plane])}",
        f"  port = {plan.ike.port}",
        f"  port_nat_t = {plan.ike.nat_port}",
        *_routing(plan),
        f"  interfaces_ignore = {ignored}",
        "  install_virtual_ip = no",
        f"  retransmit_timeout = {RETRANSMIT_S}",
        f"  retransmit_base = {RETRANSMIT_BASE}",
        f"  retransmit_tries = {RETRANSMIT_TRIES}",
        "  make_before_break = yes",
        # An SA without its child is of no use to anybody, and the peer should hear so at once.
        "  close_ike_on_child_failure = yes",
        f"  half_open_timeout = {HALF_OPEN_S}",
        f"  cookie_threshold = {COOKIE_THRESHOLD}",
        f"  cookie_threshold_ip = {COOKIE_THRESHOLD_ADDRESS}",
        f"  block_threshold = {BLOCK_THRESHOLD_ADDRESS}",
        f"  init_limit_half_open = {HALF_OPEN_LIMIT}",
        "  ikesa_table_size = 256",
        "  ikesa_table_segments = 16",
        "  start-scripts {",
        *([f'    name = "{_name_script(plan.registry)}"'] if plane is Plane.USERSPACE else []),
        f'    load = "{_load_script()}"',
        "  }",
        "  plugins {",
        "    addrblock {",
        "      strict = yes",
        "    }",
        *(_LIBIPSEC if plane is Plane.USERSPACE else ()),
        *(("    kernel-netlink {", f"      fwmark = !{mark_text}", "    }") if plane is Plane.USERSPACE else ()),
        "    socket-default {",
        f"      fwmark = {mark_text}",
        "    }",
        "    vici {",
        f"      socket = unix://{VICI_INSIDE}",
        "    }",
        "  }",
        # To whoever keeps the process, who also bounds the log: at this level every idle SA says a line a DPD.
        "  filelog {",
        "    stderr {",
        "      default = 1",
        "      net = 0",
        "      enc = 0",
        "      flush_line = yes",
        "    }",
        "  }",
        "}",
        # It reads the same file as charon, whose list of plugins is not for it: to read PEM and keys, no more.
        "swanctl {",
        f"  load = {' '.join(SWANCTL_PLUGINS)}",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _swanctl_conf(plan: Plan) -> str:
    """The connection by which any router of ours may come in. One setting a line: the parser takes a line as a whole.

    mobike = no and unique = never: a changed NAT mapping is noticed by DPD only without MOBIKE, and of two SAs made by
    both ends at once dmvpnd ends the one that the rule names.
    """
    ike = plan.ike
    host = f"{plan.transport}/{plan.transport.max_prefixlen}"
    lines = [
        header(plan.network, plan.router),
        "connections {",
        "  own {",
        "    version = 2",
        "    remote_addrs = %any",
        f"    proposals = {word(ike.ike_proposal, 'crypto')}",
        "    unique = never",
        "    mobike = no",
        f"    dpd_delay = {ike.dpd_delay_s}s",
        f"    rekey_time = {ike.rekey_s * 2}s",
        "    local {",
        "      auth = pubkey",
        f"      certs = {PKI_INSIDE}/router.pem",
        f"      id = {word(ike.identity, 'domain')}",
        "    }",
        "    remote {",
        "      auth = pubkey",
        f"      cacerts = {PKI_INSIDE}/ca.pem",
        "    }",
        "    children {",
        "      gre {",
        "        mode = tunnel",
        f"        local_ts = {host}[gre]",
        f"        remote_ts = {word(plan.transport_range, 'transport')}[gre]",
        f"        esp_proposals = {word(ike.esp_proposal, 'crypto')}",
        f"        rekey_time = {ike.rekey_s}s",
        # Whoever started the SA starts it again.
        "        dpd_action = clear",
        "        start_action = none",
        "      }",
        "    }",
        "  }",
        *_foreign(plan),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _foreign(plan: Plan) -> Iterator[str]:
    """The connection of foreign peers, under another CA: charon goes on from here to `own` by the certificate's.

    Transport mode between the addresses of the underlay, and a trap: the first GRE packet to anybody makes charon ask
    for an SA, and is never sent without.
    """
    served = [cloud for cloud in plan.clouds if cloud.plane is Plane.KERNEL and cloud.encrypted and cloud.foreign]
    addresses = dict.fromkeys(str(cloud.underlay_address) for cloud in served if cloud.underlay_address is not None)
    if not addresses:
        return
    ike = plan.ike
    yield from (
        "  foreign {",
        "    version = 2",
        f"    local_addrs = {','.join(word(address, 'address') for address in addresses)}",
        "    remote_addrs = %any",
        f"    proposals = {word(ike.ike_proposal, 'crypto')}",
        "    unique = never",
        "    mobike = no",
        f"    dpd_delay = {ike.dpd_delay_s}s",
        f"    rekey_time = {ike.rekey_s * 2}s",
        "    local {",
        "      auth = pubkey",
        f"      certs = {PKI_INSIDE}/router.pem",
        f"      id = {word(ike.identity, 'domain')}",
        "    }",
        "    remote {",
        "      auth = pubkey",
        f"      cacerts = {PKI_INSIDE}/{FOREIGN_CA}",
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
    )
