"""PFX files: as old Windows tools write them, and as new and old tools read them."""

import subprocess
from pathlib import Path

import pytest
from renewal_cases import CLAIMS, ROOT, router

from dmvpn.errors import Fault, WrongInput
from dmvpn.identity import pfx, pfx_rounds
from dmvpn.identity.pfx import Contents, For
from dmvpn.linux import files
from dmvpn.operations import pfx as operation

WORDS = b"correct horse battery"
PAPERS = Contents(*router(CLAIMS), (ROOT[0],))
MADE = pfx.write("par1", PAPERS, WORDS)


def openssl(*argv: str, given: bytes = WORDS + b"\n") -> bytes:
    return subprocess.run(("openssl", *argv), input=given, capture_output=True, check=True, timeout=20).stdout


@pytest.mark.parametrize(
    ("certificates", "key"),
    [
        pytest.param("PBE-SHA1-RC2-40", "PBE-SHA1-3DES", id="Windows up to 8: RC2-40 and 3DES"),
        pytest.param("PBE-SHA1-RC2-40", "PBE-SHA1-RC2-40", id="RC2-40 for both"),
        pytest.param("PBE-SHA1-3DES", "PBE-SHA1-3DES", id="3DES"),
        pytest.param("AES-256-CBC", "AES-256-CBC", id="Windows 10: AES"),
    ],
)
def test_what_other_tools_wrote_is_read(tmp_path: Path, certificates: str, key: str) -> None:
    for name, content in (("pem", PAPERS.certificate), ("key", PAPERS.key), ("ca", ROOT[0])):
        (tmp_path / name).write_bytes(content)
    openssl(
        *("pkcs12", "-export", "-legacy", "-certpbe", certificates, "-keypbe", key, "-macalg", "SHA1"),
        *("-in", f"{tmp_path}/pem", "-inkey", f"{tmp_path}/key", "-certfile", f"{tmp_path}/ca"),
        *("-passout", "stdin", "-out", f"{tmp_path}/old.pfx"),
    )
    assert pfx.read((tmp_path / "old.pfx").read_bytes(), WORDS, "old.pfx") == PAPERS


@pytest.mark.parametrize("reader", list(For))
def test_openssl_reads_what_we_write(tmp_path: Path, reader: For) -> None:
    (tmp_path / "new.pfx").write_bytes(pfx.write("par1", PAPERS, WORDS, reader))
    legacy = ("-legacy",) if reader is For.OLD else ()
    told = openssl("pkcs12", *legacy, "-in", f"{tmp_path}/new.pfx", "-passin", "stdin", "-nodes")
    assert PAPERS.certificate in told
    assert ROOT[0] in told
    assert b"friendlyName: par1" in told


@pytest.mark.parametrize(
    ("octets", "words", "why"),
    [
        pytest.param(MADE, b"battery", "does not open", id="a wrong passphrase"),
        pytest.param(MADE[:200], WORDS, "does not open", id="cut short"),
        pytest.param(b"", WORDS, "does not open", id="empty"),
        pytest.param(ROOT[0], WORDS, "does not open", id="a certificate"),
        pytest.param(b"0" * (1 << 19), WORDS, "octets; 262144 are the limit", id="too large"),
    ],
)
def test_what_does_not_open_says_so(octets: bytes, words: bytes, why: str) -> None:
    with pytest.raises(WrongInput, match=why):
        pfx.read(octets, words, "x.pfx")


@pytest.mark.parametrize(
    ("argv", "rounds"),
    [
        pytest.param((), 3 * 2048, id="openssl's own: two safes and the seal"),
        pytest.param(("-iter", "300000"), 3 * 300_000, id="a careful tool"),
        pytest.param(("-iter", "2500001", "-nomaciter"), 2 * 2_500_001, id="in the safes alone"),
        pytest.param(
            ("-legacy", "-certpbe", "PBE-SHA1-RC2-40", "-iter", "1700000"), 5_100_000, id="as old Windows tools"
        ),
    ],
)
def test_a_file_that_asks_for_too_much_work_is_refused_before_it_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: tuple[str, ...], rounds: int
) -> None:
    for name, content in (("pem", PAPERS.certificate), ("key", PAPERS.key)):
        (tmp_path / name).write_bytes(content)
    openssl(
        *("pkcs12", "-export", *argv, "-in", f"{tmp_path}/pem", "-inkey", f"{tmp_path}/key"),
        *("-passout", "stdin", "-out", f"{tmp_path}/x.pfx"),
    )
    octets = (tmp_path / "x.pfx").read_bytes()
    assert pfx_rounds.total(octets) == rounds
    if rounds <= pfx.ROUNDS_LIMIT:
        assert pfx.read(octets, WORDS, "x.pfx").key == PAPERS.key
        return

    def never(*_: object) -> None:
        raise AssertionError("the work was begun")

    monkeypatch.setattr(pfx.pkcs12, "load_key_and_certificates", never)
    with pytest.raises(WrongInput, match=f"asks for {rounds} rounds of key derivation; 5000000 are the limit"):
        pfx.read(octets, WORDS, "x.pfx")


def element(tag: int, value: bytes) -> bytes:
    return bytes((tag, 0x84)) + len(value).to_bytes(4, "big") + value


PARAMETERS = element(0x30, element(0x04, b"12345678") + element(0x02, b"\x7f\xff\xff\xff"))


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(PARAMETERS, id="long lengths"),
        pytest.param(b"\x30\x80" + PARAMETERS + b"\0\0", id="a length that is not said"),
        pytest.param(element(0x30, element(0x04, PARAMETERS)), id="in a string"),
        pytest.param(
            b"\x30\x80\x24\x80" + element(0x04, PARAMETERS[:7]) + element(0x04, PARAMETERS[7:]) + bytes(4),
            id="in a string of two pieces",
        ),
    ],
)
def test_rounds_are_found_as_old_tools_write_them(octets: bytes) -> None:
    assert pfx_rounds.total(octets) == 0x7FFF_FFFF


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(b"\x30\x80" * 5000, id="deep"),
        pytest.param(b"\x30\x84\0\0\x9c\x42" + b"\5\0" * 20_001, id="many"),
        pytest.param(b"\x30\x05\x04", id="cut short"),
        pytest.param(b"\x3f\x81\0", id="a tag of several octets"),
        pytest.param(b"\x30\x89" + bytes(9), id="a length of nine octets"),
        pytest.param(b"\x30\x80\x04\0", id="no end"),
    ],
)
def test_what_no_tool_writes_is_no_pfx(octets: bytes) -> None:
    with pytest.raises(WrongInput, match="does not open: it is no PFX file"):
        pfx.read(octets, WORDS, "x.pfx")


@pytest.mark.parametrize("at", range(0, len(MADE), len(MADE) // 24))
def test_a_damaged_file_never_raises_anything_else(at: int) -> None:
    octets = bytearray(MADE)
    octets[at] ^= 0x10
    try:
        found = pfx.read(bytes(octets), WORDS, "x.pfx")
    except WrongInput:
        return
    assert found.certificate == PAPERS.certificate


def test_papers_go_into_a_file_and_come_back_for_their_owner_alone(tmp_path: Path) -> None:
    papers, out = tmp_path / "par1", tmp_path / "par1.pfx"
    files.make_directory(papers, mode=0o700)
    files.write_secret(papers / "router.key", PAPERS.key)
    files.write(papers / "router.pem", PAPERS.certificate)
    files.write(papers / "ca.pem", ROOT[0])
    operation.export_papers(papers, out, WORDS.decode(), For.OLD)
    assert out.stat().st_mode & 0o777 == 0o600
    back = tmp_path / "back"
    assert operation.import_papers(out, back, WORDS.decode()) == ("router.key", "router.pem", "ca.pem")
    for name in ("router.key", "router.pem", "ca.pem"):
        assert (back / name).read_bytes() == (papers / name).read_bytes()
    assert back.stat().st_mode & 0o777 == 0o700
    files.check_private(back / "router.key")
    with pytest.raises(Fault, match="is there already"):
        operation.import_papers(out, back, WORDS.decode())
