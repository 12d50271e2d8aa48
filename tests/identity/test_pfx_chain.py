"""Papers as a PFX and back: which authority is which, and that what comes back can be installed."""

import itertools
import os
import subprocess
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest
from renewal_cases import CLAIMS, NOW, OTHER, RANGE, RENEWER, ROOT, SIGNER, renewed, router
from router_places import installing_below

from dmvpn.errors import WrongInput
from dmvpn.identity import authority, chain, keys, pfx, renewal
from dmvpn.identity.pfx import Contents, For
from dmvpn.linux import files
from dmvpn.operations import papers
from dmvpn.operations import pfx as operation

WORDS = "correct horse battery"
FOREIGN = authority.create_foreign_authority("acme", now=NOW)
OTHER_ROOT = authority.create_authority("acme", RANGE, now=NOW)  # of the same name
FIRST = router(CLAIMS)
RENEWED = renewed(*FIRST)
ABROAD = authority.issue_foreign(*FOREIGN, "vyos1.example.net", now=NOW)
ORDERS = list(itertools.permutations((ROOT[0], FOREIGN[0], RENEWER[0])))
KEPT_AS = f"renewal-{authority.describe(RENEWER[0]).serial:x}.pem"

Pair = tuple[bytes, bytes | None]


def laid(directory: Path, own: Pair, **authorities: bytes) -> Path:
    """As `pki issue` lays papers out."""
    files.make_directory(directory, mode=0o700)
    assert own[1] is not None
    files.write(directory / "router.pem", own[0])
    files.write_secret(directory / "router.key", own[1])
    for name, pem in authorities.items():
        path = directory / f"{name.replace('__', '/').replace('_', '-')}.pem"
        files.make_directory(path.parent)
        files.write(path, pem)
    return directory


@pytest.fixture
def pki(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where `pki install` puts the papers of acme."""
    return installing_below(tmp_path, monkeypatch)


def there(directory: Path) -> dict[str, bytes]:
    found = (Path(parent) / name for parent, _, names in os.walk(directory) for name in names)
    return {str(path.relative_to(directory)): path.read_bytes() for path in found}


@pytest.mark.parametrize(
    ("own", "authorities"),
    [
        pytest.param(FIRST, {"ca": ROOT[0]}, id="the root alone"),
        pytest.param(FIRST, {"ca": ROOT[0], "foreign_ca": FOREIGN[0]}, id="a network with foreign routers"),
        pytest.param(FIRST, {"ca": ROOT[0], "renewal_hq1": RENEWER[0]}, id="one that will be renewed"),
        pytest.param(RENEWED, {"ca": ROOT[0], "renewal_hq1": RENEWER[0]}, id="renewed"),
        pytest.param(
            RENEWED, {"ca": ROOT[0], "foreign_ca": FOREIGN[0], "renewal_hq1": RENEWER[0]}, id="renewed, and foreign"
        ),
        pytest.param(
            RENEWED,
            {"ca": ROOT[0], "foreign_ca": FOREIGN[0], "swanctl__x509ca__renewal_1": RENEWER[0]},
            id="as a router has them",
        ),
    ],
)
@pytest.mark.parametrize("reader", list(For))
def test_papers_that_went_through_a_pfx_can_be_installed(
    tmp_path: Path, pki: Path, own: Pair, authorities: dict[str, bytes], reader: For
) -> None:
    source = laid(tmp_path / "par1", own, **authorities)
    operation.export_papers(source, tmp_path / "par1.pfx", WORDS, reader)
    names = operation.import_papers(tmp_path / "par1.pfx", tmp_path / "back", WORDS)
    expected = {"router.pem": own[0], "router.key": own[1], "ca.pem": ROOT[0]}
    if "foreign_ca" in authorities:
        expected["foreign-ca.pem"] = FOREIGN[0]
    renews = RENEWER[0] in authorities.values()
    assert there(tmp_path / "back") == expected | ({KEPT_AS: RENEWER[0]} if renews else {})
    assert set(names) == set(there(tmp_path / "back"))

    assert papers.install(tmp_path / "back") == pki
    installed = there(pki)
    assert {name: installed[name] for name in expected} == expected
    assert installed.get(f"swanctl/x509ca/{KEPT_AS}") == (RENEWER[0] if renews else None)


def test_a_foreign_routers_papers_come_back_each_under_its_name(tmp_path: Path) -> None:
    every = {"ca": ROOT[0], "foreign_ca": FOREIGN[0], "renewal_hq1": RENEWER[0]}
    operation.export_papers(laid(tmp_path / "vyos1", ABROAD, **every), tmp_path / "x.pfx", WORDS, For.OLD)
    operation.import_papers(tmp_path / "x.pfx", tmp_path / "back", WORDS)
    found = there(tmp_path / "back")
    assert (found["ca.pem"], found["foreign-ca.pem"], found[KEPT_AS]) == (ROOT[0], FOREIGN[0], RENEWER[0])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("own", [pytest.param(RENEWED, id="ours"), pytest.param(ABROAD, id="a foreign router's")])
def test_the_order_in_the_file_says_nothing(own: Pair, order: tuple[bytes, ...]) -> None:
    found = pfx.sort_out(Contents(own[0], own[1] or b"", order), "x.pfx")
    assert found == pfx.Authorities(ROOT[0], FOREIGN[0], (RENEWER[0],))


@pytest.mark.parametrize("order", ORDERS)
def test_renewed_papers_in_a_pfx_of_old_windows_tools_can_be_installed(
    tmp_path: Path, pki: Path, order: tuple[bytes, ...]
) -> None:
    for name, content in (("pem", RENEWED[0]), ("key", RENEWED[1]), ("authorities", b"".join(order))):
        (tmp_path / name).write_bytes(content)
    argv = ("openssl", "pkcs12", "-export", "-legacy", "-certpbe", "PBE-SHA1-RC2-40", "-keypbe", "PBE-SHA1-3DES")
    more = ("-macalg", "SHA1", "-in", "pem", "-inkey", "key", "-certfile", "authorities", "-passout", "stdin")
    said = f"{WORDS}\n".encode()
    subprocess.run((*argv, *more, "-out", "old.pfx"), input=said, cwd=tmp_path, check=True, timeout=20)
    operation.import_papers(tmp_path / "old.pfx", tmp_path / "back", WORDS)
    papers.install(tmp_path / "back")
    assert (pki / "router.pem").read_bytes() == RENEWED[0]
    assert (pki / "ca.pem").read_bytes() == ROOT[0]
    assert (pki / "foreign-ca.pem").read_bytes() == FOREIGN[0]


def renewed_with_more() -> Pair:
    """What a stolen renewal authority could sign: more than the root vouched for."""
    key = keys.new_key()
    origin = (chain.origin_extension(chain.to_der(FIRST[0])), False)
    claims = replace(CLAIMS, prefixes=(ip_network("10.0.0.0/8"),))
    name = "par1.example.net"
    pem = authority.vouched(SIGNER, claims, name, key.public_key(), now=NOW, days=9, further=(origin,))
    return pem, keys.key_pem(key)


OTHER_RENEWER = renewal.create_renewal_authority(*OTHER_ROOT, "acme", "hq1", now=NOW)
BROKEN = "x.pfx: the chain of the router's certificate does not verify: "


@pytest.mark.parametrize(
    ("own", "authorities", "why"),
    [
        pytest.param(FIRST, (), "x.pfx: has no authority in it; export the whole chain", id="none"),
        pytest.param(FIRST, (OTHER_ROOT[0],), f"{BROKEN}no authority in there signed it", id="a root of the same name"),
        pytest.param(FIRST, (FOREIGN[0],), f"{BROKEN}no authority in there signed it", id="the foreign one alone"),
        pytest.param(RENEWED, (ROOT[0],), f"{BROKEN}no authority in there signed it", id="who renewed is not there"),
        pytest.param(
            RENEWED, (ROOT[0], OTHER_RENEWER[0]), f"{BROKEN}no authority in there signed it", id="another renewed"
        ),
        pytest.param(RENEWED, (RENEWER[0],), f"{BROKEN}whoever signed it is under no root", id="the root is not there"),
        pytest.param(
            RENEWED, (RENEWER[0], OTHER_ROOT[0]), f"{BROKEN}whoever signed it is under no root", id="another root"
        ),
        pytest.param(
            renewed_with_more(),
            (ROOT[0], RENEWER[0]),
            f"{BROKEN}was renewed with other claims than our root vouched for",
            id="renewed with more",
        ),
        pytest.param(ABROAD, (ROOT[0],), f"{BROKEN}no root in there signed it", id="a foreign router, without its own"),
        pytest.param(
            FIRST,
            (ROOT[0], FOREIGN[0], authority.create_foreign_authority("other", now=NOW)[0]),
            "x.pfx: has 2 roots, where one of foreign routers is the most",
            id="two of foreign routers",
        ),
    ],
)
def test_a_chain_that_does_not_verify_is_one_message_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: Pair, authorities: tuple[bytes, ...], why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert own[1] is not None
    Path("x.pfx").write_bytes(pfx.write("par1", Contents(own[0], own[1], authorities), WORDS.encode()))
    with pytest.raises(WrongInput) as caught:
        operation.import_papers(Path("x.pfx"), Path("back"), WORDS)
    assert str(caught.value).startswith(why)
    assert not Path("back").exists()


def test_what_nobody_could_import_is_not_exported(tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match="the chain of the router's certificate does not verify"):
        operation.export_papers(laid(tmp_path / "par1", RENEWED, ca=ROOT[0]), tmp_path / "x.pfx", WORDS, For.PRESENT)
    assert not (tmp_path / "x.pfx").exists()


@pytest.mark.parametrize(
    ("own", "authorities", "why"),
    [
        pytest.param(RENEWED, {"ca": ROOT[0]}, "another authority issued it", id="who renewed is not there"),
        pytest.param(router(OTHER), {"ca": OTHER_ROOT[0]}, "another authority issued it", id="another root"),
        pytest.param(
            renewed_with_more(),
            {"ca": ROOT[0], "renewal_hq1": RENEWER[0]},
            "was renewed with other claims than our root vouched for",
            id="renewed with more",
        ),
        pytest.param((FIRST[0], RENEWED[1]), {"ca": ROOT[0]}, "the key is not that of the certificate", id="a key"),
    ],
)
def test_papers_that_nobody_vouches_for_are_not_installed(
    tmp_path: Path, pki: Path, own: Pair, authorities: dict[str, bytes], why: str
) -> None:
    with pytest.raises(WrongInput, match=why):
        papers.install(laid(tmp_path / "par1", own, **authorities))
    assert not pki.exists()
