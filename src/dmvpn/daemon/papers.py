"""This router's papers on disk, and changing them so that a crash at any moment leaves a pair that fits.

charon is given every key in swanctl/private, so the new key lies there before the certificate changes, in one step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from dmvpn.errors import Fault
from dmvpn.identity import authority, keys, revocation
from dmvpn.identity.chain import Chain
from dmvpn.identity.revocation import RevocationList
from dmvpn.linux import files

CA_CERTIFICATE = "ca.pem"
FOREIGN_CERTIFICATE = "foreign-ca.pem"
ROUTER_CERTIFICATE, ROUTER_KEY = "router.pem", "router.key"
REQUEST_KEY = "request.key"  # of a request whose answer is not here yet
NEXT_KEY = "next.key"  # while papers change
RENEWER_CERTIFICATE, RENEWER_KEY = "renewal.pem", "renewal.key"  # of a hub that renews
PEM_LIMIT_OCTETS = 1 << 16
DIRECTORIES = ("x509", "x509ca", "x509crl", "private")
LISTS_LIMIT = 32


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, PEM."""

    certificate: bytes
    key: bytes


class Papers:
    """What is in a router's pki directory. Every method raises Fault for what cannot be read or written."""

    def __init__(self, pki: Path) -> None:
        self.pki = pki
        self.swanctl = pki / "swanctl"

    def make_directories(self) -> None:
        files.make_directory(self.pki, mode=0o700)
        for name in DIRECTORIES:
            files.make_directory(self.swanctl / name, mode=0o700)

    def own(self) -> Pair:
        return Pair(self.read(ROUTER_CERTIFICATE), self.read_private(ROUTER_KEY))

    def renewer(self) -> Pair | None:
        """The renewal authority of this hub, if it is one."""
        if not (self.pki / RENEWER_KEY).exists():
            return None
        return Pair(self.read(RENEWER_CERTIFICATE), self.read_private(RENEWER_KEY))

    def read(self, name: str) -> bytes:
        return files.read(self.pki / name, limit_octets=PEM_LIMIT_OCTETS)

    def read_private(self, name: str) -> bytes:
        return files.read_private(self.pki / name, limit_octets=PEM_LIMIT_OCTETS)

    def pending_key(self) -> bytes:
        """The key that a new certificate is asked for: the same one until that is in place."""
        if not (self.pki / REQUEST_KEY).exists():
            files.write_secret(self.pki / REQUEST_KEY, keys.key_pem(keys.new_key()))
        return self.read_private(REQUEST_KEY)

    def swap(self, new: Pair, loaded: Callable[[bytes], None] = lambda _key: None) -> None:
        """Put a new pair in place; `loaded` gives charon the key before it is needed."""
        files.write_secret(self.swanctl / "private" / NEXT_KEY, new.key)
        loaded(new.key)
        files.write(self.pki / ROUTER_CERTIFICATE, new.certificate)
        self._settle(new.key)

    def _settle(self, key: bytes) -> None:
        files.write_secret(self.swanctl / "private" / ROUTER_KEY, key)
        files.write_secret(self.pki / ROUTER_KEY, key)
        files.remove(self.swanctl / "private" / NEXT_KEY)
        files.remove(self.pki / REQUEST_KEY)

    def mend(self) -> None:
        """Finish a change that died halfway: the certificate says which key is right."""
        waiting = self.swanctl / "private" / NEXT_KEY
        if not waiting.exists():
            return
        key = files.read(waiting, limit_octets=PEM_LIMIT_OCTETS)
        if authority.public_key_in(self.read(ROUTER_CERTIFICATE)) == keys.public_key_of(key, str(waiting)):
            self._settle(key)
        else:
            files.remove(waiting)

    # ------------------------------------------------------------ authorities and lists

    def chain(self) -> Chain:
        """The root, and the renewal authorities that are known here."""
        there = (self.pki / CA_CERTIFICATE).exists()  # crypto: none needs no papers
        found = Chain(self.read(CA_CERTIFICATE) if there else None)
        for path in sorted((self.swanctl / "x509ca").glob("renewal-*.pem")):
            found.add_renewer(authority.certificate_in(files.read(path, limit_octets=PEM_LIMIT_OCTETS)))
        return found

    def keep_renewer(self, pem: bytes) -> None:
        """A renewal authority that is one: charon sends it along with what it signed."""
        serial = authority.describe(pem).serial
        files.write(self.swanctl / "x509ca" / f"renewal-{serial:x}.pem", pem)

    def list_path(self, issuer: bytes) -> Path:
        return self.swanctl / "x509crl" / f"{issuer.hex()[:40]}.crl"

    def keep_list(self, found: RevocationList) -> None:
        files.write(self.list_path(found.issuer), found.der)

    def lists(self, signers: tuple[x509.Certificate, ...]) -> tuple[tuple[RevocationList, ...], tuple[Fault, ...]]:
        """Those on disk that are good, and what is wrong with the others."""
        good, bad = [], []
        for path in sorted((self.swanctl / "x509crl").glob("*.crl"))[:LISTS_LIMIT]:
            try:
                octets = files.read(path, limit_octets=revocation.LIST_LIMIT_OCTETS)
                good.append(revocation.read(octets, signers, str(path)))
            except Fault as fault:
                bad.append(fault)
        return tuple(good), tuple(bad)

    def signers(self, chain: Chain) -> tuple[x509.Certificate, ...]:
        """Who may sign revocation lists here: our root, renewal authorities, and the foreign routers' CA."""
        foreign: tuple[x509.Certificate, ...] = ()
        if (self.pki / FOREIGN_CERTIFICATE).exists():
            foreign = (authority.certificate_in(self.read(FOREIGN_CERTIFICATE)),)
        return (*chain.roots, *chain.renewers, *foreign)
