"""init, site add, site remove as they are typed."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from dmvpn_command import ENVIRONMENT, dmvpn


@pytest.fixture
def started(tmp_path: Path) -> Path:
    assert dmvpn("init", "--yes", cwd=tmp_path).status == 0
    return tmp_path


def test_init_without_a_terminal_says_which_option_is_missing(tmp_path: Path) -> None:
    done = dmvpn("init", "--network", "acme", cwd=tmp_path)
    assert (done.status, done.out) == (2, "")
    assert done.err == (
        "dmvpn: init: there is no terminal to ask questions on;"
        " say --domain (such as example.net), or --yes for all defaults\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_init_with_every_option_asks_nothing_and_writes_a_good_file(tmp_path: Path) -> None:
    done = dmvpn(
        *("init", "net.yaml", "--network", "corp", "--domain", "corp.example", "--prefix", "10.0.0.0/8"),
        *("--overlay", "10.9.0.0/24", "--hub-site", "berlin", "--hub-address", "192.0.2.10/29"),
        *("--hub-gateway", "192.0.2.9", "--hub-public", "203.0.113.9", "--sites", "rome,oslo"),
        cwd=tmp_path,
    )
    assert done.status == 0, done
    checked = dmvpn("check", "net.yaml", cwd=tmp_path)
    assert (checked.status, checked.out) == (0, "net.yaml: good: 1 cloud, 3 sites, 3 routers\n")
    assert "public: 203.0.113.9" in (tmp_path / "net.yaml").read_text()


def test_init_overwrites_nothing(started: Path) -> None:
    before = (started / "network.yaml").read_bytes()
    done = dmvpn("init", "--yes", cwd=started)
    assert (done.status, done.err) == (
        1,
        "dmvpn: network.yaml: is there already; add to it with: dmvpn site add NAME\n",
    )
    assert (started / "network.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("option", "value", "fault"),
    [
        pytest.param("--network", "Acme", "network: Acme is not a name", id="a capital letter"),
        pytest.param("--network", "a\nb", r"network: 'a\nb' is not a name", id="a line break"),
        pytest.param("--prefix", "10.0.0.1/8", "prefix: 10.0.0.1/8 has bits set after the prefix", id="host bits"),
        pytest.param("--prefix", "10.0.0.0/27", "has no room for sites", id="narrow"),
        pytest.param("--overlay", "192.168.0.0/24", "overlay: 192.168.0.0/24 is not inside 10.0.0.0/8", id="outside"),
        pytest.param("--sites", "paris Paris", "sites: Paris is not a name", id="one of several names"),
        pytest.param("--sites", "hq", "hq: there is a site of that name", id="a name twice"),
    ],
)
def test_a_wrong_answer_is_told_and_nothing_is_written(tmp_path: Path, option: str, value: str, fault: str) -> None:
    done = dmvpn("init", "--yes", option, value, cwd=tmp_path)
    assert done.status == 2, done
    assert fault in done.err
    assert len(done.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_interview_takes_defaults_and_asks_again(tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    running = subprocess.Popen(
        [sys.executable, "-m", "dmvpn.cli.main", "init"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdin=follower,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(follower)
    os.write(leader, b"Wrong Name\ncorp\n" + b"\n" * 8)
    out, err = running.communicate(timeout=60)
    os.close(leader)
    assert running.returncode == 0, err
    assert "'Wrong Name' is not a name" in err
    assert "network: corp" in (tmp_path / "network.yaml").read_text()
    assert "Name of the network [acme]: " in out + err


def test_what_init_writes_can_be_a_lab_with_more_sites_too(started: Path) -> None:
    assert dmvpn("site", "add", "rome", cwd=started).status == 0
    done = dmvpn("lab", "graph", "network.yaml", cwd=started)
    assert done.status == 0, done
    assert all(router in done.out for router in ("hq1", "par1", "osl1", "rom1"))


def test_a_site_is_added_and_says_what_comes_next(started: Path) -> None:
    done = dmvpn("site", "add", "rome", cwd=started)
    assert done.out == (
        "network.yaml: rome added: 10.1.3.0/24, AS 4200000003, router rom1, blue 10.255.1.13\nnext: dmvpn invite rom1\n"
    )
    assert dmvpn("check", cwd=started).out == "network.yaml: good: 1 cloud, 4 sites, 4 routers\n"


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        pytest.param(("paris",), "paris: there is a site of that name", id="a name that is taken"),
        pytest.param(("ro me",), "site: 'ro me' is not a name", id="no name"),
        pytest.param(("rome", "--router", "par1"), "a router of paris is called par1 too", id="a router's name twice"),
        pytest.param(("rome", "--asn", "x"), "asn: x is no autonomous system number", id="no ASN"),
        pytest.param(("rome", "--prefix", "10.1.1.0/25"), "10.1.1.0/25 of rome.lan overlaps 10.1.1.0/24", id="overlap"),
        pytest.param(("rome", "--cloud", "red"), "red: there is no such cloud", id="no such cloud"),
        pytest.param(("rome", "--address", "1.2.3.4/24", "--dhcp"), "are both there", id="two ways"),
        pytest.param(("rome", "--port", "eth 0"), "'eth 0' is not a Linux device name", id="no port"),
    ],
)
def test_a_site_that_would_not_do_leaves_the_file_alone(started: Path, words: tuple[str, ...], fault: str) -> None:
    before = (started / "network.yaml").read_bytes()
    done = dmvpn("site", "add", *words, cwd=started)
    assert done.status == 2, done
    assert fault in done.err
    assert (started / "network.yaml").read_bytes() == before
    assert [path.name for path in started.iterdir()] == ["network.yaml"]


def test_a_site_that_others_need_is_not_removed_and_the_places_are_told(started: Path) -> None:
    path = started / "network.yaml"
    text = path.read_text() + "lab:\n  hosts:\n    pc: {network: oslo.lan, address: 10.1.2.9}\n"
    path.write_text(text)
    line = len(text.splitlines())
    done = dmvpn("site", "remove", "oslo", cwd=started)
    assert done.status == 2
    assert done.err.startswith(f"dmvpn: network.yaml:{line}:19: without oslo: there is no network oslo.lan")
    hub = dmvpn("site", "remove", "hq", cwd=started)
    assert "without hq: cloud blue has no hub" in hub.err
    assert path.read_text() == text


def test_a_file_keeps_its_mode_and_a_link_stays_a_link(started: Path) -> None:
    real = started / "real.yaml"
    (started / "network.yaml").rename(real)
    real.chmod(0o640)
    (started / "network.yaml").symlink_to("real.yaml")
    assert dmvpn("site", "add", "rome", cwd=started).status == 0
    assert (started / "network.yaml").is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert "rome" in real.read_text()
