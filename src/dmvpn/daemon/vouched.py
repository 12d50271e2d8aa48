"""The want of claims: nobody vouches for a peer with an SA."""

from ipaddress import IPv4Address, IPv6Address

from dmvpn.errors import Fault

Address = IPv4Address | IPv6Address
REMEMBERED = 1024


class Unvouched(Fault):
    """Nobody vouches for a peer; `reason` is the word it is counted under."""

    def __init__(self, where: str, what: str, reason: str) -> None:
        self.reason = reason
        super().__init__(where, what)


class Refused(dict[Address, str]):
    """Why the last SA with a peer was refused, by its NBMA address. Bounded: the oldest go."""

    def note(self, nbma: Address, why: str) -> None:
        self.pop(nbma, None)
        self[nbma] = why
        if len(self) > REMEMBERED:
            del self[next(iter(self))]
