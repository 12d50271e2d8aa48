"""Whom the file vouches for claims no more than a certificate could."""

from collections.abc import Iterator

from dmvpn.errors import Problem
from dmvpn.network.model import Network
from dmvpn.network.places import places
from dmvpn.network.plan import Address
from dmvpn.network.plan import Network as Prefix
from dmvpn.network.vouched import vouched_members, vouched_prefixes

# What identity/claims.py takes for one router; a test holds the two together.
CLAIMED_PREFIXES_LIMIT = 512
CLAIMED_ADDRESSES_LIMIT = 64


def vouched_claims(network: Network) -> Iterator[Problem]:
    """Over all its clouds: dmvpnd refuses a peer with more."""
    for place in places(network):
        prefixes: set[Prefix] = set()
        addresses: set[Address] = set()
        for name in place.router.tunnels:
            for member in vouched_members(network, name) if name in network.clouds else ():
                if member.place.name == place.name:
                    prefixes |= set(vouched_prefixes(network, member))
                    addresses |= set(member.tunnel.address)
        if len(prefixes) > CLAIMED_PREFIXES_LIMIT or len(addresses) > CLAIMED_ADDRESSES_LIMIT:
            what = f"the file vouches for {len(prefixes)} prefixes and {len(addresses)} addresses of {place.name}"
            most = f"at most {CLAIMED_PREFIXES_LIMIT} and {CLAIMED_ADDRESSES_LIMIT} can be claimed"
            yield Problem(place.key, what, f"{most}: write wider prefixes, or use several routers")


CHECKS = (vouched_claims,)
