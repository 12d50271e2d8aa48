"""What a site serves to its networks, people on the road, and what all routers have in common."""

from typing import Annotated

from pydantic import Field

from dmvpn.network.values import (
    Address,
    Addresses,
    AddressRange,
    Advertisement,
    Domain,
    Host,
    Hosts,
    MacAddress,
    Name,
    Octet,
    OneOrMany,
    PortNumber,
    Prefix4,
    Prefixes,
    RecordData,
    RecordName,
    Section,
    SshKey,
    Timezone,
    Url,
    WholeSeconds,
    Zones,
)


class DhcpReservation(Section):
    """A host that always gets the same address."""

    mac: MacAddress
    """The host's MAC address."""
    address: Address
    """What it gets."""


class Dhcp(Section):
    """A DHCP server for one network; router, DNS and NTP options are derived."""

    pool: AddressRange | None = None
    """FIRST-LAST; absent: no pool, reservations only."""
    lease: WholeSeconds = 3600
    """How long a lease lasts."""
    reservations: dict[Name, DhcpReservation] = Field(default_factory=dict)
    """Hosts by name."""


class StubZone(Section):
    """A zone whose servers are ours to know."""

    name: Domain
    """The zone."""
    servers: Addresses
    """Who answers for it."""


class Dns(Section):
    """A recursive resolver for the site's networks; zones of other sites are found by themselves."""

    zones: Zones = ("lan", "dmz")
    """Policy zones it answers to."""
    stub_zones: Annotated[tuple[StubZone, ...], Field(max_length=64)] = ()
    """Zones outside this file that are internal too."""
    forward: Addresses = ()
    """Ask these instead of the root servers."""


class Record(Section):
    """One DNS record: a name and exactly one kind of data."""

    name: RecordName = "@"
    """Below the zone; @ is the zone itself."""
    a: RecordData | None = None
    """An IPv4 address."""
    aaaa: RecordData | None = None
    """An IPv6 address."""
    mx: RecordData | None = None
    """Preference and host."""
    cname: RecordData | None = None
    """The canonical name."""
    ns: RecordData | None = None
    """A name server."""
    srv: RecordData | None = None
    """Priority, weight, port and host."""
    txt: RecordData | None = None
    """Text; the quotes are written for you."""
    ptr: RecordData | None = None
    """The name an address belongs to."""


class DnsZone(Section):
    """An internal zone this site is the authority for."""

    name: Domain
    """The zone."""
    address: Address | None = None
    """A second address in the first network, where it is served; absent: derived."""
    ttl: WholeSeconds = 86400
    """Of every record."""
    records: Annotated[tuple[Record, ...], Field(max_length=5000)] = ()
    """Its records; SOA, NS and the routers' addresses are derived."""


class Ntp(Section):
    """A time server for the site's networks."""

    servers: Hosts = ("pool.ntp.org",)
    """Where its own time comes from."""
    zones: Zones = ("lan", "dmz")
    """Policy zones it answers to."""


class Ssh(Section):
    """The SSH server: keys only."""

    port: PortNumber = 22
    """TCP port."""
    zones: Zones = ("lan",)
    """Policy zones it answers to."""


class Services(Section):
    """What a site, or one router where it differs, serves. An empty mapping switches a service on."""

    dns: Dns | None = None
    """Recursive DNS."""
    dns_zone: DnsZone | None = None
    """An internal DNS zone."""
    ntp: Ntp | None = None
    """Time."""
    ssh: Ssh | None = None
    """Remote administration."""


class Person(Section):
    """Somebody on the road."""

    zones: Zones | None = None
    """Zones this person may reach; absent: those of `road-warriors`."""
    address: Address | None = None
    """Always this address of the pool."""


class RoadWarriors(Section):
    """People who connect from anywhere, with OpenVPN."""

    serve: Annotated[tuple[Name, ...], OneOrMany(), Field(min_length=1, max_length=16)]
    """Routers that serve them."""
    pool: Prefix4
    """Their addresses."""
    port: PortNumber = 1194
    """UDP port."""
    zones: Zones = ("lan",)
    """Zones they may reach."""
    routes: Prefixes = ()
    """What is pushed to them; absent: the network's prefixes."""
    people: dict[Name, Person] = Field(default_factory=dict)
    """By name."""


class Admin(Section):
    """Somebody who may log in to the routers."""

    ssh_key: SshKey
    """A public key."""
    name: Name = "root"
    """The account."""


class Vrrp(Section):
    """Shared gateways of sites with two routers."""

    advertise: Advertisement = 0.5
    """Between two advertisements: after three and a bit the next router has the gateway."""
    group: Octet = 1
    """The virtual router id, the same in each network: no other group of routers there may have it."""


class System(Section):
    """What all our routers have in common. What is not written here is left as the machine has it."""

    hostname: bool = False
    """true: each machine is called as its router is in this file."""
    timezone: Timezone | None = None
    """Of every router."""
    admins: Annotated[tuple[Admin, ...], Field(max_length=64)] = ()
    """Who may log in: their keys are added to those that an account has already."""
    resolvers: Addresses = ()
    """Which DNS servers the routers themselves ask."""
    proxy: Url | None = None
    """Through which HTTP proxy they fetch packages."""
    vrrp: Vrrp = Vrrp()
    """Shared gateways."""
    syslog: Host | None = None
    """Where logs go."""
