"""A router joins a network of two hubs that runs: what a bad bundle gets, what a good one does, what others notice."""

import hashlib
import json
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from vpn_lab import NETWORKS, Figure, Vpn, until, until_nothing

from dmvpn.identity import bundle
from dmvpn.identity.bundle import Contents, Head
from dmvpn.linux import files
from dmvpn.linux.process import Result
from dmvpn.operations import labs

pytestmark = pytest.mark.lab

WORDS = "correct horse battery"
DESK = ("-f", "/var/office/network.yaml", "-d", "/var/office/pki")
BUNDLE, PASSPHRASE = "/run/par1.bundle", "/run/words"
# What a router learns by itself: not its configuration.
LEARNED = ("nhrp-", "learned.json")


@pytest.fixture(scope="module")
def vpn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vpn]:
    """Two hubs and lyo1 run; par1 has nothing; the desk has the file, its secret and the authority."""
    file = Path(shutil.copy(NETWORKS["join"], tmp_path_factory.mktemp("join")))
    files.write_secret(file.with_name("nhrp-secret"), "cisco123\n")
    with labs.held(file, f"vpn-join-{os.getpid()}", lambda _progress: None) as lab:
        vpn = Vpn(lab)
        for router in ("hq1", "res1", "lyo1"):
            until_nothing(f"{router} to settle", partial(_unsettled, vpn, router), within_s=30)
        yield vpn
        vpn.assert_no_traceback()


def _unsettled(vpn: Vpn, router: str) -> list[str]:
    return [one for one in vpn.unsettled(router) if "10.1.12." not in one and "10.1.14." not in one]


@pytest.fixture(scope="module")
def invited(vpn: Vpn) -> bytes:
    """What `dmvpn invite` writes at the desk."""
    vpn.node("desk").call(partial(files.write_secret, Path("/var/office/words"), f"{WORDS}\n"))
    done = vpn.run(
        "desk",
        *("dmvpn", "invite", "par1", *DESK, "--passphrase-file", "/var/office/words", "--out", "/var/office/b"),
    )
    assert done.status == 0, done
    assert "next, on par1: dmvpn join" in done.text
    assert vpn.run("desk", "stat", "-c", "%a", "/var/office/b").text == "600\n"
    return vpn.node("desk").call(partial(files.read, Path("/var/office/b")))


def lay(vpn: Vpn, octets: bytes, words: str = WORDS) -> None:
    """As somebody with a stick does on par1; not in the directories that are watched."""
    vpn.node("par1").call(partial(files.write_secret, Path(BUNDLE), octets))
    vpn.node("par1").call(partial(files.write_secret, Path(PASSPHRASE), f"{words}\n"))


def join(vpn: Vpn, *more: str) -> Result:
    return vpn.dmvpn("par1", "join", BUNDLE, "--passphrase-file", PASSPHRASE, *more, timeout_s=120)


def digest(directories: tuple[str, ...]) -> dict[str, str]:
    """Every file and link below, by what it is: inside a router."""
    found = {}
    for top in directories:
        for parent, _, names in os.walk(top):
            for name in names:
                path = Path(parent) / name
                if any(word in name for word in LEARNED):
                    continue
                facts = path.lstat()
                content = path.read_bytes() if stat.S_ISREG(facts.st_mode) else str(facts.st_mode).encode()
                content = str(path.readlink()).encode() if path.is_symlink() else content
                found[str(path)] = f"{facts.st_mode:o} {hashlib.sha256(content).hexdigest()}"
    return found


def state_of(vpn: Vpn, router: str) -> dict[str, str]:
    return vpn.node(router).call(partial(digest, ("/etc", "/var/lib/dmvpn", "/run/dmvpn")))


def configuration_of(vpn: Vpn, router: str) -> dict[str, str]:
    return vpn.node(router).call(partial(digest, ("/etc", "/var/lib/dmvpn")))


# ------------------------------------------------------------------ what is refused


@pytest.fixture(scope="module")
def opened(invited: bytes) -> tuple[Head, Contents]:
    read = bundle.read(invited, "b")
    return read.head, read.open(WORDS)


Change = Callable[[bytes, Head, Contents], bytes]


def _anew(head: Head, contents: Contents) -> bytes:
    return bundle.seal(head, contents, WORDS)


def _flipped(octets: bytes, place: int) -> bytes:
    changed = bytearray(octets)
    changed[place] ^= 0x10
    return bytes(changed)


def _on_purpose(octets: bytes) -> bytes:
    changed = _flipped(octets, -60)[: -bundle.DIGEST_OCTETS]
    return changed + hashlib.sha256(changed).digest()


def _at(issued: datetime) -> Change:
    return lambda _octets, head, contents: _anew(
        replace(head, issued=issued, expires=issued + timedelta(days=7)), contents
    )


def _with(change: Callable[[str], str]) -> Change:
    return lambda _octets, head, contents: _anew(head, replace(contents, network_file=change(contents.network_file)))


NOW = datetime.now(UTC)
REFUSED: list[object] = [
    pytest.param(lambda o, h, c: o[:-1], WORDS, "is cut short, or was changed on its way", id="an octet is missing"),
    pytest.param(lambda o, h, c: o[:100], WORDS, "is cut short, or was changed on its way", id="most is missing"),
    pytest.param(lambda o, h, c: b"", WORDS, "is no bundle", id="empty"),
    pytest.param(lambda o, h, c: _flipped(o, -1), WORDS, "is cut short, or was changed", id="the last octet"),
    pytest.param(lambda o, h, c: _flipped(o, 40), WORDS, "is cut short, or was changed", id="an octet of the head"),
    pytest.param(lambda o, h, c: _flipped(o, 2000), WORDS, "is cut short, or was changed", id="an octet of the rest"),
    pytest.param(lambda o, h, c: _on_purpose(o), WORDS, "somebody changed the file", id="changed on purpose"),
    pytest.param(lambda o, h, c: o, "wrong horse battery", "the passphrase is wrong, or", id="a wrong passphrase"),
    pytest.param(_at(NOW - timedelta(days=8)), WORDS, "expired on .*; ask for a new invitation", id="expired"),
    pytest.param(_at(NOW + timedelta(days=3000)), WORDS, "the clock is too early: set it", id="a clock of years ago"),
    pytest.param(_at(NOW - timedelta(days=3000)), WORDS, "the clock is too late: set it", id="a clock of years ahead"),
    pytest.param(
        lambda o, h, c: _anew(replace(h, machine="0" * 32), c), WORDS, "is for the machine 0000", id="another machine"
    ),
    pytest.param(
        lambda o, h, c: _anew(replace(h, router="lyo1"), c),
        WORDS,
        "certificate is another router's|has no router lyo1",
        id="another router's papers",
    ),
    pytest.param(
        lambda o, h, c: o.replace(b"BUNDLE 1", b"BUNDLE 7", 1),
        WORDS,
        "version 7, and this program reads version 1",
        id="a newer bundle",
    ),
    pytest.param(
        _with(lambda text: text.replace("version: 1", "version: 2")),
        WORDS,
        "version 2 is that of a newer OpenDMVPN",
        id="a newer network file",
    ),
    pytest.param(
        _with(lambda text: text.replace("par1:", '"par1\\nevil":')),
        WORDS,
        r"'par1\\nevil' is not a name",
        id="a router's name with a line break",
    ),
    pytest.param(
        _with(lambda text: text.replace("10.1.12.0/24", "10.1.99.0/24")),
        WORDS,
        "does not claim 10.1.99.0/24|does not claim par1",
        id="a file that says more than the certificate",
    ),
    pytest.param(
        lambda o, h, c: _anew(h, replace(c, key=c.key[:-300] + c.key[-100:])), WORDS, "key", id="a key of nobody"
    ),
    pytest.param(
        lambda o, h, c: _anew(h, replace(c, ca=c.certificate)),
        WORDS,
        "another authority issued it",
        id="another anchor",
    ),
]


@pytest.mark.parametrize(("change", "words", "message"), REFUSED)
def test_a_bad_bundle_gets_one_message_and_changes_nothing(
    vpn: Vpn, invited: bytes, opened: tuple[Head, Contents], change: Change, words: str, message: str
) -> None:
    lay(vpn, change(invited, *opened), words)
    before = state_of(vpn, "par1")
    done = join(vpn)
    said = done.stderr.decode()
    assert done.status == 2, done
    assert done.stdout == b""
    assert len(said.splitlines()) == 1, said
    assert said.startswith("dmvpn: ")
    assert re.search(message, said), said
    assert state_of(vpn, "par1") == before


def test_a_file_that_is_not_there_or_open_to_others_is_refused(vpn: Vpn, invited: bytes) -> None:
    before = state_of(vpn, "par1")
    assert vpn.dmvpn("par1", "join", "/nowhere").stderr == b"dmvpn: /nowhere: no such file or directory\n"
    lay(vpn, invited)
    vpn.run("par1", "chmod", "0644", PASSPHRASE)
    assert b"others can use it (mode 0644); chmod 600 /run/words" in join(vpn).stderr
    no_terminal = vpn.dmvpn("par1", "join", BUNDLE)
    assert no_terminal.stderr == b"dmvpn: passphrase: there is no terminal to ask for it; say --passphrase-file FILE\n"
    assert state_of(vpn, "par1") == before


def test_a_machine_that_lacks_something_is_left_as_it_was(vpn: Vpn, invited: bytes) -> None:
    lay(vpn, invited)
    before = state_of(vpn, "par1")
    taken = vpn.node("par1").start(("python3", "-c", HOLDER))
    try:
        until("the port is taken", lambda: b":500 " in vpn.run("par1", "ss", "-uln").stdout, within_s=10)
        done = join(vpn)
    finally:
        taken.stop()
    assert b"UDP port 500: in use by " in done.stderr, done
    assert state_of(vpn, "par1") == before


HOLDER = "import socket,time; s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.bind(('',500)); time.sleep(60)"


def test_a_dry_run_changes_nothing(vpn: Vpn, invited: bytes) -> None:
    lay(vpn, invited)
    before = state_of(vpn, "par1")
    done = join(vpn, "--dry-run")
    assert done.status == 0, done
    assert "par1 of pair: all checks passed; nothing was changed" in done.text
    assert "hubs hq1, res1" in done.text
    assert state_of(vpn, "par1") == before


# ------------------------------------------------------------------ joining


def test_a_router_joins_and_nobody_else_is_touched(vpn: Vpn, invited: bytes, figure: Figure) -> None:
    lay(vpn, invited)
    others = ("hq1", "res1", "lyo1")
    before = {router: configuration_of(vpn, router) for router in others}
    units = {router: {name: row.pid for name, row in vpn.services(router).items()} for router in others}
    began = time.monotonic()
    done = join(vpn)
    assert done.status == 0, done
    assert "revision 1 in force: par1 of pair" in done.text
    assert re.search(r"reached (hq1|res1) after \d+\.\d s", done.text), done.text
    until(
        "the first ping across",
        lambda: vpn.run("paris-pc", "ping", "-c", "1", "-W", "1", vpn.lab.hosts["lyon-pc"]).status == 0,
        within_s=20,
    )
    figure("join to the first ping across", time.monotonic() - began)
    for router in others:
        assert configuration_of(vpn, router) == before[router]
        assert {name: row.pid for name, row in vpn.services(router).items()} == units[router]
    hubs = {row.name: row.state.value for row in vpn.status("par1").peers if row.kind == "hub"}
    until(
        "both hubs",
        lambda: {row.name for row in vpn.status("par1").peers if row.bgp == "Established"} == set(hubs),
        within_s=20,
    )
    assert set(hubs) == {"hq1", "res1"}


def test_its_file_has_no_other_sites_and_its_papers_are_its_own(vpn: Vpn) -> None:
    text = vpn.read("par1", "/etc/dmvpn/pair/current/network.yaml")
    assert "lyo" not in text
    assert text.startswith("# par1's part of pair")
    assert vpn.run("par1", "stat", "-c", "%a", "/etc/dmvpn/pair/pki/router.key").text == "600\n"


def test_a_router_that_knows_only_its_part_still_finds_others(vpn: Vpn) -> None:
    done = vpn.dmvpn("par1", "ping", "10.1.13.1", "--until-direct")
    assert done.text.endswith("direct\n"), done
    assert vpn.dmvpn("par1", "ping", "lyo1", "-c", "1").status == 0
    views = json.loads(vpn.dmvpn("par1", "explain", "paris", vpn.lab.hosts["lyon-pc"], "--json").stdout)
    assert views[0]["state"] == "direct"


def test_joining_again_says_so_and_changes_nothing(vpn: Vpn, invited: bytes) -> None:
    lay(vpn, invited)
    before = configuration_of(vpn, "par1")
    done = join(vpn)
    assert done.status == 0, done
    assert "par1 joined with this bundle already" in done.text
    assert "nothing changed" in done.text
    assert "reached hq1" in done.text or "reached res1" in done.text
    assert configuration_of(vpn, "par1") == before


def test_what_it_remembers_of_that_is_input_as_any_other(vpn: Vpn, invited: bytes) -> None:
    lay(vpn, invited)
    path = "/var/lib/dmvpn/pair/joined.json"
    kept = vpn.read("par1", path)
    vpn.write("par1", path, "[" * 2000)
    done = join(vpn)
    vpn.write("par1", path, kept)
    assert done.stderr.decode() == f"dmvpn: {path}: cannot be read; remove it, then join again\n"


def test_another_routers_bundle_is_refused_where_one_has_joined(vpn: Vpn, opened: tuple[Head, Contents]) -> None:
    head, contents = opened
    lay(vpn, bundle.seal(replace(head, router="lyo1"), contents, WORDS))
    before = configuration_of(vpn, "par1")
    done = join(vpn)
    assert done.status == 2
    assert b"is for router lyo1, and this machine is par1 of pair" in done.stderr
    assert configuration_of(vpn, "par1") == before


# ------------------------------------------------------------------ the strict way


def test_a_router_that_keeps_its_key_joins_with_the_answer_to_its_request(vpn: Vpn) -> None:
    before = state_of(vpn, "nic1")
    name = ("--request", "nic1.example.net", "--network", "pair")
    assert "would be made" in vpn.dmvpn("nic1", "join", *name, "--dry-run").text
    assert state_of(vpn, "nic1") == before
    asked = vpn.dmvpn("nic1", "join", *name)
    assert asked.status == 0, asked
    assert asked.text.startswith("-----BEGIN CERTIFICATE REQUEST-----")
    key = vpn.run("nic1", "sha256sum", "/etc/dmvpn/pair/pki/request.key").text.split()[0]
    vpn.dmvpn("nic1", "join", *name)
    assert vpn.run("nic1", "sha256sum", "/etc/dmvpn/pair/pki/request.key").text.split()[0] == key, "the same key again"

    vpn.node("desk").call(partial(files.write, Path("/var/office/nic1.csr"), asked.stdout))
    signed = vpn.run("desk", "dmvpn", "pki", "sign", "/var/office/nic1.csr", *DESK)
    assert signed.status == 0, signed
    answer = "/var/office/pki/routers/nic1/nic1.signed"
    assert f"next, on nic1: dmvpn join {answer}" in signed.text
    found = re.search(r"trust anchor ([0-9a-f]{64})", signed.text)
    assert found is not None
    octets = vpn.node("desk").call(partial(files.read, Path(answer)))
    vpn.node("nic1").call(partial(files.write, Path("/run/nic1.signed"), octets))

    before = state_of(vpn, "nic1")
    other = vpn.dmvpn("nic1", "join", "/run/nic1.signed", "--anchor", "0" * 64)
    assert b"do not join" in other.stderr
    dry = vpn.dmvpn("nic1", "join", "/run/nic1.signed", "--dry-run")
    assert found[1] in dry.text
    assert state_of(vpn, "nic1") == before

    done = vpn.dmvpn("nic1", "join", "/run/nic1.signed", "--anchor", found[1], timeout_s=120)
    assert done.status == 0, done
    assert re.search(r"reached (hq1|res1) after \d+\.\d s", done.text), done.text
    assert vpn.run("nic1", "sha256sum", "/etc/dmvpn/pair/pki/router.key").text.split()[0] == key
    again = vpn.dmvpn("nic1", "join", "/run/nic1.signed")
    assert "nic1 joined with this bundle already" in again.text


def test_an_answer_is_for_the_machine_that_asked(vpn: Vpn) -> None:
    octets = vpn.node("nic1").call(partial(files.read, Path("/run/nic1.signed")))
    vpn.node("par1").call(partial(files.write, Path("/run/nic1.signed"), octets))
    before = configuration_of(vpn, "par1")
    done = vpn.dmvpn("par1", "join", "/run/nic1.signed")
    assert done.status == 2
    assert b"is for router nic1, and this machine is par1 of pair" in done.stderr
    assert configuration_of(vpn, "par1") == before


def test_a_hub_that_nobody_reaches_is_named_with_the_layer(vpn: Vpn, invited: bytes) -> None:
    """The last test: par1 forgets that it ever joined, and the WAN carries nothing to the hubs."""
    vpn.dmvpn("par1", "stop")
    vpn.run("par1", "bash", "-c", "rm -rf /etc/dmvpn/pair /var/lib/dmvpn/pair")
    vpn.lab.cut_path("par1", "hq1")
    vpn.lab.cut_path("par1", "res1")
    lay(vpn, invited)
    done = join(vpn, "--wait", "2")
    assert done.status == 1, done
    assert re.search(
        r"no hub reached in \d+ s: UNDERLAY: (hq1|res1) answers neither IKE nor ping at 192.0.2", done.text
    )
    vpn.lab.heal_all()
    done = join(vpn)
    assert done.status == 0, done
