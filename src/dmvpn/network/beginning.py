"""The first network file: a hub, some sites, and a word of explanation where a reader will look for it."""

from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any

from dmvpn.network.loading import load
from dmvpn.network.plan import Address, Interface
from dmvpn.network.proposals import EXAMPLES, LAN_LENGTH, Wanted, new_site
from dmvpn.network.writing import text_of

HUB_ASN = 4_200_000_000  # RFC 6996: the first private number of four octets; two have room for 1023 sites only
HEADING = """\
# The network {network}: every router takes its part of this file.
#   dmvpn check       what is wrong in it, and what to write instead
#   dmvpn site add    another site, with the next free numbers
#   dmvpn lab up      all of it on this machine, before any router is touched
"""


@dataclass(frozen=True, slots=True)
class Beginning:
    """What `init` asks. `hub_address` is the hub's on the Internet, `sites` are those beside the hub's."""

    network: str
    domain: str
    prefix: IPv4Network
    overlay: IPv4Network
    hub_site: str
    hub_address: Interface
    hub_gateway: Address
    hub_public: Address | None
    sites: tuple[str, ...]


def first_file(asked: Beginning) -> str:
    """The text. It passes `check`, and while its addresses are examples it runs as a lab as well."""
    router = f"{asked.hub_site[:3].rstrip('-')}1"
    uplink: dict[str, Any] = {
        "port": "eth0",
        "address": [str(asked.hub_address)],
        "gateway": [str(asked.hub_gateway)],
    }
    if asked.hub_public is not None:
        uplink["public"] = str(asked.hub_public)
    values: dict[str, Any] = {
        "version": 1,
        "network": asked.network,
        "domain": asked.domain,
        "prefixes": [str(asked.prefix)],
        "clouds": {"blue": {"overlay": [str(asked.overlay)], "gre-key": 1}},
        "sites": {
            asked.hub_site: {
                "asn": HUB_ASN,
                "networks": {"lan": {"port": "eth1", "prefix": str(_first_lan(asked))}},
                "routers": {
                    router: {
                        "uplinks": {"isp1": uplink},
                        "tunnels": {"blue": {"role": "hub", "address": [str(asked.overlay[1])]}},
                    }
                },
            }
        },
    }
    for name in asked.sites:
        network = load(text_of(values), "network.yaml")
        values["sites"][name] = new_site(network, Wanted(name))
    example = any(asked.hub_address.ip in known for known in EXAMPLES if known.version == asked.hub_address.version)
    above: dict[tuple[str, ...], str] = {
        ("clouds",): "One mGRE network. Spokes find each other through its hubs and then talk directly.",
        ("sites",): "A site is a place with networks and a router. Ports are those of the machine itself (ip link).",
    }
    if example:
        above["sites",] += "\nThe uplinks' addresses are examples (RFC 5737): put in those of your ISPs."
    beside: dict[tuple[str, ...], str] = {
        ("prefixes",): "all that is ever internal",
        ("network",): "devices, units and directories carry it",
    }
    return HEADING.format(network=asked.network) + text_of(values, above=above, beside=beside)


def _first_lan(asked: Beginning) -> IPv4Network:
    """The first /24 of the internal prefix that is not the overlay's, 10.1.0.0/24 where it is wide enough."""
    wide = asked.prefix.prefixlen <= 12
    start = int(asked.prefix.network_address) + ((1 << 16) if wide else 0)
    length = max(LAN_LENGTH, asked.prefix.prefixlen)
    step = 1 << (32 - length)
    candidates = (IPv4Network((value, length)) for value in range(start, int(asked.prefix.broadcast_address), step))
    return next(net for net in candidates if not net.overlaps(asked.overlay))
