"""The `lab` section: the WAN between routers, and the hosts behind them. Only the lab reads it."""

from enum import StrEnum

from pydantic import Field

from dmvpn.network.plan import Platform
from dmvpn.network.values import (
    Address,
    BitsPerSecond,
    Fraction,
    Interfaces,
    LinkName,
    Name,
    Names,
    Octets,
    Path,
    Seconds,
    Section,
)


class NatKind(StrEnum):
    NONE = "none"
    ONE_TO_ONE = "1:1"
    PORT_RESTRICTED = "port-restricted"
    SYMMETRIC = "symmetric"


class NatPort(StrEnum):
    KEEP = "keep"
    OTHER = "other"


class LabNat(Section):
    """A NAT router between an uplink and the WAN; it holds the uplink's gateway address."""

    kind: NatKind = NatKind.NONE
    """What it does: none, 1:1 (address only), port-restricted (Linux masquerade), symmetric (a port for each peer)."""
    public: Address | None = None
    """Its address on the WAN side."""
    port: NatPort = NatPort.KEEP
    """keep: the outer port is the inner one when it is free; other: always another one."""
    behind: LinkName | None = None
    """Behind the NAT router of this other uplink, on one network with it; then nothing else is given here."""


class LabLink(Section):
    """One link's quality. What is absent comes from lab.wan. Delay is one way and acts in each direction."""

    delay: Seconds | None = None
    """One way, in each direction."""
    jitter: Seconds | None = None
    """Spread of the delay, one way."""
    loss: Fraction | None = None
    """Share of packets lost, in each direction."""
    rate: BitsPerSecond | None = None
    """Bits per second, in each direction."""
    mtu: Octets | None = None
    """Octets."""


class LabUplink(LabLink):
    """The access link of one router's uplink."""

    at: Name = "internet"
    """The WAN router it ends at."""
    nat: LabNat = LabNat()
    """The NAT router before the WAN, if any."""
    leases: Interfaces = ()
    """With dhcp: true or pppoe, the addresses its ISP gives, one after the other; absent: two of 198.19.0.0/16."""


class LabRouter(Section):
    """A router of the WAN."""

    links: dict[Name, LabLink] = Field(default_factory=dict)
    """Links to other WAN routers, by their name."""


class LabHost(Section):
    """A host in one network of one site."""

    network: LinkName
    """SITE.NETWORK."""
    address: Address
    """Inside that network's prefix."""
    office: bool = False
    """In /var/office there: the network file, its secrets and the lab's certificate authority, as an operator has."""


class Lab(Section):
    """Everything only the lab reads. A lab runs the file's routers as root, so a lab file is code."""

    wan: LabLink = LabLink()
    """Defaults of every link."""
    routers: dict[Name, LabRouter] = Field(default_factory=lambda: {"internet": LabRouter()})
    """The WAN's routers; one named internet when absent."""
    uplinks: dict[LinkName, LabUplink] = Field(default_factory=dict)
    """Access links, by ROUTER.UPLINK; an uplink not named here is a plain link to the first WAN router."""
    hosts: dict[Name, LabHost] = Field(default_factory=dict)
    """Hosts, by name."""
    bare: Names = ()
    """Routers of ours that start without papers and configuration, to be joined by hand."""
    story: Path | None = None
    """The scenario that `dmvpn lab run` plays when it is given this file, relative to it."""
    play: dict[Name, Platform] = Field(default_factory=dict)
    """Who plays a foreign router of which a lab has no image, by its name: debian, or frr (in a kernel with GRE)."""
    frr10: Names = ()
    """Routers that have FRR 10, which `scripts/setup test` unpacks: ours, or foreign ones that FRR plays. The others
    have the machine's own."""


def settled(link: LabLink, defaults: LabLink) -> LabLink:
    """The link with the defaults filled in; what neither says stays None (no impairment)."""
    mine = {name: getattr(link, name) for name in LabLink.model_fields}
    theirs = {name: getattr(defaults, name) for name in LabLink.model_fields}
    return LabLink.model_construct(**{name: theirs[name] if mine[name] is None else mine[name] for name in mine})
