"""A lab's office: a host with what an operator has on his desk, the network file and the certificate authority."""

from functools import partial
from pathlib import Path

from dmvpn.lab import private
from dmvpn.lab.running import Lab
from dmvpn.linux import files
from dmvpn.operations import pki
from dmvpn.operations.inviting import secrets_of
from dmvpn.operations.reading import NetworkFile, our_routers

DESK = Path("/var/office")  # in a lab each host has a /var of its own, which ends with it


def furnish(lab: Lab, file: NetworkFile, issuing: pki.Authorities, issued: tuple[bytes, ...]) -> None:
    """In every host that is an office; `issued` are the certificates that routers have. Raises Fault."""
    offices = [name for name, host in file.network.lab.hosts.items() if host.office]
    if not offices:
        return
    secrets = {name: secret for router in our_routers(file) for name, secret in secrets_of(file, router)}
    for name in offices:
        lab.node(name).call(partial(_lay_out, file.text, secrets, issuing, issued))


def _lay_out(text: str, secrets: dict[str, bytes], issuing: pki.Authorities, issued: tuple[bytes, ...]) -> None:
    if not private.MARKER.exists():
        return  # never on the host's own desk
    papers = DESK / "pki"
    files.make_directory(DESK, mode=0o700)
    files.make_directory(papers, mode=0o700)
    files.write(DESK / "network.yaml", text)
    for name, secret in secrets.items():
        files.make_directory((DESK / name).parent, mode=0o700)
        files.write_secret(DESK / name, secret)
    pki.keep(papers, issuing)
    for certificate in issued:
        pki.record(papers, certificate)
