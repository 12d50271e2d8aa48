"""Foreign routers have an authority of their own, whose certificates say a name and nothing else."""

from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path

import pytest

from dmvpn.errors import WrongInput
from dmvpn.identity import authority
from dmvpn.linux import files, process
from dmvpn.operations import papers, pki, reading

NOW = datetime.now(UTC)
OURS = authority.create_authority("acme", ip_network("100.64.0.0/16"), now=NOW)
THEIRS = authority.create_foreign_authority("acme", now=NOW)

FILE = """
version: 1
network: acme
domain: example.net
prefixes: [10.0.0.0/8]
clouds:
  blue: {overlay: [10.255.1.0/24], gre-key: 1, plane: kernel}
sites:
  hq:
    asn: 65000
    networks: {lan: {port: eth1, prefix: 10.1.0.0/24}}
    routers:
      hq1:
        uplinks: {wan: {port: eth0, address: [192.0.2.2/30], gateway: [192.0.2.1]}}
        tunnels: {blue: {role: hub, address: [10.255.1.1]}}
"""
WITH_FOREIGN = (
    FILE
    + """
  kyiv:
    asn: 65001
    networks: {lan: {port: eth1, prefix: 10.1.11.0/24}}
    routers:
      kyi1:
        platform: frr
        uplinks: {wan: {interface: eth0, address: [198.51.100.2/30], gateway: [198.51.100.1]}}
        tunnels: {blue: {address: [10.255.1.11]}}
        claims: {from: file}
"""
)


def verified(directory: Path, ca: str) -> bool:
    argv = ("openssl", "verify", "-CAfile", str(directory / ca), str(directory / "router.pem"))
    return process.run(argv, timeout_s=10, package="openssl", accept=range(256)).status == 0


def read(text: str, tmp_path: Path) -> reading.NetworkFile:
    return reading.from_text(text, "acme.yaml", tmp_path)


def test_a_foreign_certificate_has_a_name_and_no_blocks_and_no_claims() -> None:
    pem, key = authority.issue_foreign(*THEIRS, "kyi1.example.net", now=NOW)
    found = authority.describe(pem)
    assert (found.subject, found.names) == ("CN=kyi1.example.net", ("kyi1.example.net",))
    assert (found.blocks, found.claims, found.authority) == ((), None, False)
    assert key is not None
    assert authority.describe(THEIRS[0]).blocks == ()


def test_our_authority_makes_no_foreign_certificate() -> None:
    with pytest.raises(WrongInput, match="is that of our own routers"):
        authority.issue_foreign(*OURS, "kyi1.example.net", now=NOW)


def test_papers_of_both_kinds_verify_under_their_own_authority_only(tmp_path: Path) -> None:
    file = read(WITH_FOREIGN, tmp_path)
    pki.init(file, tmp_path / "pki", None)
    ours = pki.issue(file, tmp_path / "pki", "hq1")
    theirs = pki.issue(file, tmp_path / "pki", "kyi1")
    assert theirs.claims is None
    names = {"ca.pem", "foreign-ca.pem", "router.key", "router.pem"}
    for issued, yes, no in ((ours, "ca.pem", "foreign-ca.pem"), (theirs, "foreign-ca.pem", "ca.pem")):
        assert {path.name for path in issued.directory.iterdir()} == names
        assert verified(issued.directory, yes)
        assert not verified(issued.directory, no)
    files.check_private(tmp_path / "pki" / "foreign-ca.key")


def test_a_network_without_foreign_routers_has_one_authority(tmp_path: Path) -> None:
    file = read(FILE, tmp_path)
    pki.init(file, tmp_path / "pki", None)
    issued = pki.issue(file, tmp_path / "pki", "hq1")
    assert sorted(path.name for path in (tmp_path / "pki").iterdir()) == ["ca.key", "ca.pem", "issued", "routers"]
    assert not (issued.directory / "foreign-ca.pem").exists()


def test_the_first_foreign_router_brings_its_authority_to_those_that_have_papers(tmp_path: Path) -> None:
    before = read(FILE, tmp_path)
    pki.init(before, tmp_path / "pki", None)
    ours = pki.issue(before, tmp_path / "pki", "hq1")
    theirs = pki.issue(read(WITH_FOREIGN, tmp_path), tmp_path / "pki", "kyi1")
    carried = [(one.directory / "foreign-ca.pem").read_bytes() for one in (ours, theirs)]
    assert carried[0] == carried[1] == (tmp_path / "pki" / "foreign-ca.pem").read_bytes()


def test_foreign_papers_are_not_for_install(tmp_path: Path) -> None:
    file = read(WITH_FOREIGN, tmp_path)
    pki.init(file, tmp_path / "pki", None)
    with pytest.raises(WrongInput, match="not the certificate of one of our routers"):
        papers.install(pki.issue(file, tmp_path / "pki", "kyi1").directory)
