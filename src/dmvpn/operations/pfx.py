"""PFX files: papers in one encrypted file, for routers that take such, and from tools that write such."""

from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from dmvpn.errors import Fault
from dmvpn.identity import authority, pfx
from dmvpn.identity.chain import Chain
from dmvpn.identity.pfx import Contents, For
from dmvpn.linux import files
from dmvpn.operations.papers import renewers_in
from dmvpn.operations.pki import CA_CERTIFICATE, FOREIGN_CERTIFICATE, PEM_LIMIT_OCTETS, ROUTER_CERTIFICATE, ROUTER_KEY

__all__ = ["For", "export_papers", "import_papers", "refuse_existing"]


def import_papers(source: Path, out: Path, words: str) -> tuple[str, ...]:
    """The papers of a PFX as a directory that `pki install` takes. Names of the files written.

    Raises WrongInput before anything is written, also if its authorities do not vouch for the router's certificate.
    """
    contents = pfx.read(files.read(source, limit_octets=pfx.PFX_LIMIT_OCTETS), words.encode(), str(source))
    found = pfx.sort_out(contents, str(source))
    refuse_existing(out)
    files.make_directory(out, mode=0o700)
    files.write_secret(out / ROUTER_KEY, contents.key)
    renewers = {f"renewal-{authority.describe(one).serial:x}.pem": one for one in found.renewers}
    public = {ROUTER_CERTIFICATE: contents.certificate, CA_CERTIFICATE: found.own, FOREIGN_CERTIFICATE: found.foreign}
    written = {name: pem for name, pem in (public | renewers).items() if pem is not None}
    for name, pem in written.items():
        files.write(out / name, pem)
    return (ROUTER_KEY, *written)


def export_papers(papers: Path, out: Path, words: str, reader: For) -> None:
    """The papers of a directory of `pki issue`, or a router's own, as one PFX for its owner's eyes. Raises Fault.

    A hub's key to renew with is no part of it: such a file has one key.
    """
    refuse_existing(out)
    files.check_private(papers / ROUTER_KEY)
    roots = {name: _pem(papers / name) for name in (CA_CERTIFICATE, FOREIGN_CERTIFICATE) if (papers / name).exists()}
    renewers = Chain(roots.get(CA_CERTIFICATE), renewers_in(papers)).renewers
    authorities = (*roots.values(), *(one.public_bytes(Encoding.PEM) for one in renewers))
    contents = Contents(_pem(papers / ROUTER_CERTIFICATE), _pem(papers / ROUTER_KEY), authorities)
    pfx.sort_out(contents, str(papers))  # what nobody could import is not written
    files.write_secret(out, pfx.write(papers.resolve().name, contents, words.encode(), reader))


def refuse_existing(out: Path) -> None:
    """Raises Fault for a place that is taken."""
    if out.exists():
        raise Fault(str(out), "is there already", "remove it, or write elsewhere with --out")


def _pem(path: Path) -> bytes:
    return files.read(path, limit_octets=PEM_LIMIT_OCTETS)
