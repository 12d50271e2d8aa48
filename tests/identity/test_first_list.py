"""A newcomer knows who is revoked from the start: the lists go with an invitation, or the answer to a request."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from router_places import Elsewhere, installing_below

from dmvpn.daemon.papers import Papers
from dmvpn.daemon.vouching import Vouching
from dmvpn.errors import WrongInput
from dmvpn.identity import authority, bundle, chain, issuing, locks, requests, revocation
from dmvpn.identity.bundle import Contents, Sealed
from dmvpn.identity.revocation import Reason
from dmvpn.operations import inviting, joining, papers, pki, pki_record, reading
from dmvpn.operations.here import Here
from dmvpn.operations.reading import NetworkFile

NOW = datetime.now(UTC)
WORDS = "correct horse battery"
SITE = """
  {site}:
    asn: {asn}
    networks: {{lan: {{port: eth1, prefix: 10.1.{n}.0/24}}}}
    routers:
      {router}:
        uplinks: {{wan: {{port: eth0, address: [198.51.100.{n}/24], gateway: [198.51.100.1]}}}}
        tunnels: {{blue: {{{role}address: [10.255.1.{n}]}}}}
"""
HEAD = """
version: 1
network: acme
domain: example.net
prefixes: [10.0.0.0/8]
clouds:
  blue: {overlay: [10.255.1.0/24], gre-key: 1, plane: kernel}
sites:
"""
OURS = HEAD + "".join(
    SITE.format(site=site, router=router, asn=65000 + n, n=n, role="role: hub, " if router == "hq1" else "")
    for n, (site, router) in enumerate((("hq", "hq1"), ("paris", "par1"), ("lyon", "lyo1")), 2)
)
KYIV = SITE.format(site="kyiv", router="kyi1", asn=65009, n=9, role="")
TEXT = OURS + KYIV.replace("kyi1:\n", "kyi1:\n        platform: frr\n        claims: {from: file}\n").replace(
    "port: eth0", "interface: eth0"
)


@dataclass(frozen=True)
class Desk:
    """An authority and its file. lyo1 and the foreign kyi1 have papers and are revoked; `publish` says so."""

    file: NetworkFile
    pki: Path

    def publish(self) -> None:
        pki_record.publish(self.file, self.pki, days=30)

    def list_(self, name: str) -> bytes | None:
        path = self.pki / name
        return path.read_bytes() if path.exists() else None

    def invited(self) -> Sealed:
        made = inviting.invite(self.file, self.pki, "par1", WORDS)
        return bundle.read(made.octets, "par1.bundle")

    def contents(self) -> Contents:
        return self.invited().open(WORDS)

    def answered(self) -> Contents:
        request, key = requests.create_request("par1.example.net")
        ca = pki.authority_of(self.file, self.pki)
        signed = pki.sign(self.file, self.pki, request, ca=ca)
        return bundle.read(inviting.answer(self.file, ca, signed, request).read_bytes(), "par1.signed").open_with(key)


HOWS = [pytest.param(Desk.contents, id="invite"), pytest.param(Desk.answered, id="pki sign")]
How = Callable[[Desk], Contents]


@pytest.fixture(scope="module")
def _furnished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(locks, "SCRYPT_N", 1 << 14)  # what a guess costs is no part of these tests
        patch.setattr(locks, "SCRYPT_P", 1)
        top = tmp_path_factory.mktemp("desk")
        desk = Desk(reading.from_text(TEXT, "acme.yaml", top), top / "pki")
        pki.init(desk.file, desk.pki, None)
        for router in ("lyo1", "kyi1"):
            pki.issue(desk.file, desk.pki, router)
            pki_record.revoke(desk.pki, router, Reason.RETIRED, NOW)
        yield desk


@pytest.fixture
def desk(_furnished: Desk, tmp_path: Path) -> Desk:
    return replace(_furnished, pki=Path(shutil.copytree(_furnished.pki, tmp_path / "desk")))


@pytest.fixture
def papers_of_par1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(joining, "RUN", tmp_path)
    return installing_below(tmp_path, monkeypatch)


def installed(contents: Contents) -> None:
    """As `join` does it."""
    with joining._laid_out(contents) as source:
        papers.install(source, "acme")


@pytest.mark.parametrize("how", HOWS)
def test_a_newcomer_refuses_the_revoked_before_it_has_met_anybody(desk: Desk, papers_of_par1: Path, how: How) -> None:
    desk.publish()
    contents = how(desk)
    assert contents.crl == desk.list_("crl.pem") is not None
    assert contents.foreign_crl == desk.list_("foreign-crl.pem") is not None
    installed(contents)
    for_charon = sorted((papers_of_par1 / "swanctl/x509crl").iterdir())
    assert len(for_charon) == 2
    vouching = Vouching(Papers(papers_of_par1))
    lyo1 = (desk.pki / "routers/lyo1/router.pem").read_bytes()
    roots = [chain.key_identifier(root) for root in vouching.chain.roots]
    found = vouching.revocations.entry(vouching.chain.vouch(chain.to_der(lyo1)), roots)
    assert found is not None
    assert (found.router, found.reason) == ("lyo1", Reason.RETIRED)
    kyi1 = authority.describe((desk.pki / "routers/kyi1/router.pem").read_bytes()).serial
    assert any(kyi1 in one.entries for one in vouching.revocations.lists)


@pytest.mark.parametrize("how", HOWS)
def test_a_network_that_never_published_one_has_none(desk: Desk, papers_of_par1: Path, how: How) -> None:
    contents = how(desk)
    assert (contents.crl, contents.foreign_crl) == (None, None)
    installed(contents)
    assert list((papers_of_par1 / "swanctl/x509crl").iterdir()) == []


@pytest.mark.parametrize(
    ("first", "last"), [(0, 1), (1, 0)], ids=["the bundle's is newer", "the bundle lay for a while"]
)
def test_the_newest_list_counts(desk: Desk, papers_of_par1: Path, first: int, last: int) -> None:
    contents = []
    for _ in range(2):
        desk.publish()
        contents.append(desk.contents())
    for one in (contents[first], contents[last]):
        installed(one)
    newest = contents[1].crl
    assert newest is not None
    assert newest in {one.pem for one in Vouching(Papers(papers_of_par1)).revocations.lists}


OTHER = issuing.opened(
    *authority.create_authority("acme", reading.from_text(OURS, "x", Path()).network.transport, now=NOW)
)
FORGED = revocation.make(OTHER, [], number=1 << 40, now=NOW)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda made: replace(made, crl=FORGED), id="of another authority of the same name"),
        pytest.param(lambda made: replace(made, crl=made.foreign_crl), id="the foreign authority's in place of ours"),
        pytest.param(lambda made: replace(made, foreign_crl=made.crl), id="ours in place of the foreign authority's"),
        pytest.param(lambda made: replace(made, foreign_ca=None), id="of a foreign authority that is not there"),
        pytest.param(lambda made: replace(made, crl=b"-----BEGIN X509 CRL-----\n"), id="no list"),
        pytest.param(lambda made: replace(made, crl=b""), id="nothing"),
    ],
)
def test_a_list_that_its_authority_did_not_sign_refuses_the_bundle(
    desk: Desk, papers_of_par1: Path, tmp_path: Path, change: Callable[[Contents], Contents]
) -> None:
    desk.publish()
    sealed = desk.invited()
    here = Here("acme", Elsewhere("acme", tmp_path))
    made = sealed.open(WORDS)
    joining._check_papers(sealed, made, here)
    with pytest.raises(WrongInput, match=r"^par1\.bundle: revocation list: "):
        joining.look(sealed, change(made))
    assert not papers_of_par1.exists()


@pytest.mark.parametrize("name", ["crl.pem", "foreign-crl.pem"])
def test_a_bad_list_at_the_authority_is_not_sent_and_nobody_is_invited(desk: Desk, name: str) -> None:
    desk.publish()
    (desk.pki / name).write_bytes(FORGED)
    before = pki_record.rows(desk.pki, NOW)
    with pytest.raises(WrongInput, match=f"{name}: no authority of this network signed it"):
        desk.contents()
    assert pki_record.rows(desk.pki, NOW) == before


@pytest.mark.parametrize("name", ["crl.pem", "foreign-crl.pem"])
def test_papers_beside_a_bad_list_are_not_installed(desk: Desk, papers_of_par1: Path, name: str) -> None:
    desk.publish()
    pki.issue(desk.file, desk.pki, "par1")
    (desk.pki / "routers/par1" / name).write_bytes(FORGED)
    with pytest.raises(WrongInput, match=f"{name}: no authority of this network signed it"):
        papers.install(desk.pki / "routers/par1")
    assert not papers_of_par1.exists()
