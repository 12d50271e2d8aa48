"""dmvpn invite as it is typed, and what of a join can be tried without a router."""

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from dmvpn_command import dmvpn

from dmvpn.identity import authority, bundle, renewal
from dmvpn.operations import joining

WORDS = "correct horse battery"


@pytest.fixture(scope="module")
def _furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    desk = tmp_path_factory.mktemp("office")
    assert dmvpn("init", "--yes", cwd=desk).status == 0
    assert dmvpn("pki", "init", "--no-passphrase", cwd=desk).status == 0
    (desk / "words").write_text(f"{WORDS}\n")
    (desk / "words").chmod(0o600)
    return desk


@pytest.fixture
def office(_furnished: Path, tmp_path: Path) -> Path:
    """A network file, its authority, and a passphrase in a file."""
    return Path(shutil.copytree(_furnished, tmp_path / "office"))


def test_an_invitation_is_one_private_file_with_what_the_router_needs(office: Path) -> None:
    done = dmvpn("invite", "par1", "--passphrase-file", "words", cwd=office)
    assert done.status == 0, done
    path = office / "par1.bundle"
    assert path.stat().st_mode & 0o777 == 0o600
    assert WORDS not in done.out + done.err
    contents = bundle.read(path.read_bytes(), "par1.bundle").open(WORDS)
    assert contents.ca == (office / "pki/ca.pem").read_bytes()
    assert "oslo" not in contents.network_file
    assert contents.secrets == ()


def test_an_invitation_says_who_is_revoked(office: Path) -> None:
    assert dmvpn("pki", "issue", "osl1", cwd=office).status == 0
    assert dmvpn("pki", "revoke", "osl1", cwd=office).status == 0
    assert dmvpn("pki", "publish", cwd=office).status == 0
    assert dmvpn("invite", "par1", "--passphrase-file", "words", cwd=office).status == 0
    contents = bundle.read((office / "par1.bundle").read_bytes(), "par1.bundle").open(WORDS)
    assert contents.crl == (office / "pki/crl.pem").read_bytes()
    assert contents.foreign_crl is None


def test_where_no_hub_renews_it_says_that_the_certificate_ends_with_it(office: Path) -> None:
    warning = "no hub renews certificates, so it ends then; once, for all: dmvpn pki renewal HUB"
    assert warning in dmvpn("invite", "par1", "--generate", cwd=office).out
    assert dmvpn("pki", "renewal", "hq1", cwd=office).status == 0
    assert warning not in dmvpn("invite", "osl1", "--generate", cwd=office).out


def test_a_passphrase_that_was_made_is_shown_once_and_opens(office: Path) -> None:
    done = dmvpn("invite", "par1", "--generate", cwd=office)
    words = next(line.removeprefix("passphrase: ") for line in done.out.splitlines() if line.startswith("passphrase: "))
    assert bundle.read((office / "par1.bundle").read_bytes(), "x").open(words)


def test_the_longest_invitation_is_still_one_for_who_renews(office: Path) -> None:
    assert dmvpn("invite", "par1", "--days", "14", "--generate", cwd=office).status == 2
    assert dmvpn("invite", "par1", "--days", "13", "--generate", cwd=office).status == 0
    newest = max((office / "pki/issued").glob("*.pem"), key=lambda path: path.stat().st_mtime_ns)
    made = authority.describe(newest.read_bytes())
    assert made.not_after - made.not_before < timedelta(days=renewal.INVITATION_DAYS)


def _weak(office: Path) -> None:
    (office / "words").write_text("short\n")


def _open_to_others(office: Path) -> None:
    (office / "words").chmod(0o644)


def _two_lines(office: Path) -> None:
    (office / "words").write_text(f"{WORDS}\n{WORDS}\n")


def _there_already(office: Path) -> None:
    (office / "par1.bundle").write_text("on its way\n")


def _no_authority(office: Path) -> None:
    (office / "pki/ca.key").unlink()


def _with_secret(office: Path) -> None:
    path = office / "network.yaml"
    path.write_text(path.read_text().replace("gre-key: 1", "gre-key: 1, nhrp: {secret: {file: secrets/nhrp}}"))


@pytest.mark.parametrize(
    ("words", "change", "fault"),
    [
        pytest.param(("rome",), None, "no router is called rome", id="an unknown router"),
        pytest.param(("par1\n",), None, "no router is called par1", id="a name with a line break"),
        pytest.param(("par1",), _weak, "passphrase: 5 characters; use 12 to 1024", id="a weak passphrase"),
        pytest.param(("par1",), _open_to_others, "words: others can use it (mode 0644)", id="an open passphrase file"),
        pytest.param(("par1",), _two_lines, "words: has more than one line", id="two passphrases"),
        pytest.param(("par1",), _there_already, "par1.bundle: is there already", id="a bundle on its way"),
        pytest.param(("par1",), _no_authority, "pki/ca.key: missing", id="no authority"),
        pytest.param(("par1",), _with_secret, "secrets/nhrp: no such file or directory", id="a secret is missing"),
        pytest.param(("par1", "--days", "400"), None, "--days", id="a long life"),
    ],
)
def test_an_invitation_that_cannot_be_is_refused_and_nothing_written(
    office: Path, words: tuple[str, ...], change: Callable[[Path], None] | None, fault: str
) -> None:
    if change is not None:
        change(office)
    before = {path: path.read_bytes() for path in office.rglob("*") if path.is_file()}
    done = dmvpn("invite", *words, "--passphrase-file", "words", cwd=office)
    assert done.status in (1, 2), done
    assert fault in done.err
    assert {path: path.read_bytes() for path in office.rglob("*") if path.is_file()} == before


def test_nobody_is_asked_for_a_passphrase_without_a_terminal(office: Path) -> None:
    done = dmvpn("invite", "par1", cwd=office)
    assert (done.status, done.err) == (
        2,
        "dmvpn: passphrase: there is no terminal to ask for it; say --passphrase-file FILE or --generate\n",
    )


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        pytest.param((), "join: names no bundle", id="nothing"),
        pytest.param(("--request", "par1.example.net"), "does not say which network", id="no network"),
        pytest.param(("--request", "par1.example.net", "--network", "../x"), "network: name '../x'", id="a path"),
        pytest.param(("--request", "par\n1", "--network", "acme-test"), r"identity: name 'par\n1'", id="a line break"),
        pytest.param(("--request", "PAR1", "--network", "acme-test"), "identity: name 'PAR1'", id="capitals"),
    ],
)
@pytest.mark.parametrize("how", [pytest.param((), id="in earnest"), pytest.param(("--dry-run",), id="dry run")])
def test_a_join_that_says_too_little_is_told_what_to_say(
    tmp_path: Path, words: tuple[str, ...], fault: str, how: tuple[str, ...]
) -> None:
    done = dmvpn("join", *words, *how, cwd=tmp_path)
    assert done.status == 2, done
    assert fault in done.err
    assert len(done.err.splitlines()) == 1


def test_a_join_that_fails_under_way_leaves_everything_as_it_was(tmp_path: Path) -> None:
    etc, state = tmp_path / "etc", tmp_path / "state"
    (etc / "pki").mkdir(parents=True)
    (etc / "pki/request.key").write_text("mine\n")
    (etc / "pki/request.key").chmod(0o600)

    def interrupted() -> None:
        with joining._all_or_nothing(etc), joining._all_or_nothing(state):
            (etc / "pki/request.key").unlink()
            (etc / "pki/router.pem").write_text("new\n")
            (etc / "router").write_text("par1\n")
            state.mkdir()
            (state / "revisions").mkdir()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [str(path.relative_to(etc)) for path in sorted(etc.rglob("*"))] == ["pki", "pki/request.key"]
    assert (etc / "pki/request.key").read_text() == "mine\n"
    assert (etc / "pki/request.key").stat().st_mode & 0o777 == 0o600
    assert not state.exists()
    assert list(tmp_path.iterdir()) == [etc]
