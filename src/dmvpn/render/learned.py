"""learned.json: what dmvpnd knows of spokes by their certificates, read back as an input of the renderer.

    {"version": 1, "network": NAME, "clouds": {CLOUD: [{"router", "overlay": [...], "asn", "prefixes": [...]}, ...]}}

dmvpnd writes it (dmvpn.daemon.learned); a hub's bgpd gets a neighbour and a filter from each row, and nobody else gets
any. Nothing here is trusted to be well-formed: a row that is not makes the whole file wrong.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

from dmvpn.errors import Fault
from dmvpn.network.plan import Address, Network
from dmvpn.render.words import word

VERSION = 1
SPOKES_LIMIT = 5000
PREFIXES_LIMIT = 512
ASN_LARGEST = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class Spoke:
    """One router as its certificate, or the network file, describes it."""

    router: str
    overlay: tuple[Address, ...]
    asn: int
    prefixes: tuple[Network, ...]


Learned = Mapping[str, tuple[Spoke, ...]]  # by cloud
NOTHING: Learned = {}


def parse(text: str, network: str) -> Learned:
    """Raises Fault for a file of another format or network."""
    try:
        document = json.loads(text)
        if document["version"] != VERSION or document["network"] != network:
            raise ValueError(f"version {document['version']} of network {document['network']}")
        return {str(cloud): tuple(map(_spoke, rows)) for cloud, rows in document["clouds"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Fault("learned.json", f"cannot be read ({error!r})", "remove it: dmvpnd writes it anew") from error


def _spoke(row: dict[str, Any]) -> Spoke:
    asn = row["asn"]
    if not isinstance(asn, int) or not 0 <= asn <= ASN_LARGEST:
        raise ValueError(f"ASN {asn!r}")
    return Spoke(
        router=word(str(row["router"]), "router"),
        overlay=tuple(ip_address(str(one)) for one in row["overlay"]),
        asn=asn,
        prefixes=tuple(ip_network(str(one)) for one in row["prefixes"]),
    )
