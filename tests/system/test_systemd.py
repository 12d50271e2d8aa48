"""Routers at home under a real systemd. The tests go on from each other, as a day with one machine does."""

import base64
import json
import re
import subprocess
import time
from collections.abc import Callable

import pytest
from system_machines import DMVPN, PAPERS, Machine, Pair, footprint, until

from dmvpn.linux.systemd import UNITS

pytestmark = [pytest.mark.kernel, pytest.mark.lab, pytest.mark.patient]

TARGET = "dmvpn-acme.target"
BOOT_ID = "/proc/sys/kernel/random/boot_id"
NAMES = ("nftables", "network", "charon", "frr-run", "zebra", "bfdd", "bgpd", "gre", "dmvpnd")
PKI, STATE, RUN = "/etc/dmvpn/acme/pki", "/var/lib/dmvpn/acme", "/run/dmvpn/acme"
# Where somebody who took a daemon over would like to write. Its /home, /root and /tmp are nobody else's, /dev/shm is
# everybody's in any case.
PLACES = (
    *("/", "/etc", "/etc/dmvpn", "/etc/dmvpn/acme", PKI, "/etc/dmvpn/acme/current", "/etc/systemd/system", "/etc/ssh"),
    *("/usr/bin", "/usr/local/bin", "/opt", "/srv", "/var/log", "/var/spool", "/boot"),
    *(
        "/var/lib",
        "/var/lib/dmvpn",
        STATE,
        f"{STATE}/revisions",
        "/run",
        "/run/dmvpn",
        RUN,
        "/run/systemd/system",
        "/dev",
    ),
)
TRY = "for at in {}; do [ -d $at ] && (: >$at/.tried) 2>/dev/null && rm $at/.tried && echo $at; done; :"
DAEMONS = ("charon", "zebra", "bfdd", "bgpd", "gre", "dmvpnd")
# systemd-analyze security: 0 is locked up, 10 is free. FRR needs SYS_ADMIN, dmvpnd makes namespaces.
EXPOSURE = {"charon": 3.0, "zebra": 3.5, "bfdd": 3.5, "bgpd": 3.5, "gre": 3.1, "dmvpnd": 4.2}


def unit(name: str) -> str:
    return f"dmvpn-acme-{name}.service"


def shown(machine: Machine, name: str, what: str) -> str:
    return machine.run("systemctl", "show", "--value", f"--property={what}", unit(name)).strip()


def is_serving(machine: Machine) -> bool:
    return all(shown(machine, name, "ActiveState") == "active" for name in NAMES)


def sees(machine: Machine, peer: str) -> bool:
    said = machine.dmvpn("status", "--json", status=None)
    try:
        rows = json.loads(said)["peers"]
    except ValueError:
        return False
    return any(row["name"] == peer and row["layer"] == "UP" and row["bgp"] == "Established" for row in rows)


def has_tunnel(pair: Pair) -> bool:
    return sees(pair.hub, "par1") and sees(pair.spoke, "hq1")


def test_apply_has_systemd_keep_the_units_and_they_work_in_their_sandboxes(pair: Pair) -> None:
    for machine in pair.both:
        assert is_serving(machine)
        assert machine.run("systemctl", "is-enabled", TARGET, "dmvpn-acme-boot.service").split() == ["enabled"] * 2
        assert "supervisor" not in machine.run("ps", "-e", "-o", "args")
    # An SA, NHRP and BGP through it, and packets: charon, FRR, dmvpn-gre and dmvpnd can do what they must.
    until(lambda: has_tunnel(pair), "the tunnel is up")
    pair.spoke.run("ping", "-c", "1", "-W", "5", "10.255.1.1")
    assert "kernel" not in pair.hub.run("journalctl", "-q", "-p", "err", "-u", "dmvpn-acme-*")


def test_systemd_finds_nothing_wrong_with_the_units(pair: Pair) -> None:
    paths = [str(UNITS / unit(name)) for name in (*NAMES, "learned", "boot")] + [str(UNITS / TARGET)]
    assert pair.hub.run("systemd-analyze", "verify", "--man=no", *paths) == ""


@pytest.mark.parametrize("name", DAEMONS)
def test_a_unit_is_left_no_more_than_it_needs(pair: Pair, name: str) -> None:
    said = pair.hub.run("systemd-analyze", "security", "--no-pager", unit(name))
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert found is not None, said
    assert float(found[1]) <= EXPOSURE[name]


def test_each_daemon_renews_its_certificate_by_itself(pair: Pair) -> None:
    for machine in pair.both:
        until(lambda m=machine: _is_renewed(m), f"{machine.name} has papers of the renewal authority")  # type: ignore[misc]
        assert machine.run("stat", "-c", "%a", f"{PKI}/router.key") == "600\n"
        assert "certificate" not in machine.dmvpn("status", status=None)
    assert has_tunnel(pair)


def _is_renewed(machine: Machine) -> bool:
    return "renewal hq1" in machine.run("openssl", "x509", "-noout", "-issuer", "-in", f"{PKI}/router.pem")


def test_what_dmvpnd_may_write_is_its_networks_own(pair: Pair) -> None:
    own = shown(pair.hub, "dmvpnd", "MainPID")
    said = pair.hub.run("nsenter", "-t", own, "-m", "bash", "-c", TRY.format(" ".join(PLACES)))
    assert said.split() == [PKI, STATE, RUN]


def test_the_step_that_brings_bgpd_what_was_learned_may_write_beside_it_only(pair: Pair) -> None:
    hub, step = pair.hub, unit("learned")
    assert " neighbor 10.255.1.11 remote-as 65001\n" in hub.run("cat", f"{RUN}/bgpd.conf")
    drop_in = f"/run/systemd/system/{step}.d"
    words = TRY.format(" ".join(PLACES)).replace("$", "$$")
    lines = f"[Service]\nExecStartPost=/bin/bash -c '({words}) >{RUN}/tried'\n"
    hub.run("bash", "-c", f"mkdir -p {drop_in}; cat >{drop_in}/try.conf; systemctl daemon-reload", input=lines)
    try:
        hub.run("rm", f"{RUN}/bgpd.conf")  # as before its first start: it brings bgpd all there is once more
        hub.run("systemctl", "restart", step)
        assert hub.run("cat", f"{RUN}/tried").split() == [RUN]
        assert " neighbor 10.255.1.11 remote-as 65001\n" in hub.run("cat", f"{RUN}/bgpd.conf")
    finally:
        hub.run("bash", "-c", f"rm -r {drop_in} {RUN}/tried; systemctl daemon-reload")
    assert has_tunnel(pair)


def test_the_plane_outlives_the_control_daemon(pair: Pair) -> None:
    plane = shown(pair.hub, "gre", "MainPID")
    pair.hub.run("systemctl", "stop", unit("dmvpnd"))
    pair.spoke.run("ping", "-c", "1", "-W", "5", "10.255.1.1")
    pair.hub.run("systemctl", "start", unit("dmvpnd"))
    assert shown(pair.hub, "gre", "MainPID") == plane


@pytest.mark.parametrize("name", DAEMONS)
def test_a_killed_service_comes_back(pair: Pair, name: str) -> None:
    first = shown(pair.hub, name, "MainPID")
    pair.hub.run("kill", "-9", first)
    until(lambda: shown(pair.hub, name, "MainPID") not in (first, "0"), f"{name} is started again")
    until(lambda: is_serving(pair.hub), f"{name} serves again")


def test_rules_that_somebody_flushes_are_put_back_through_systemd(pair: Pair) -> None:
    until(lambda: "rules" not in pair.hub.dmvpn("status", status=None), "no earlier trouble")
    pair.hub.run("nft", "flush", "ruleset")
    until(lambda: "table inet dmvpn_acme" in pair.hub.run("nft", "list", "tables"), "the table is back")


def test_an_apply_without_a_change_touches_nothing(pair: Pair) -> None:
    pids = [shown(pair.hub, name, "MainPID") for name in DAEMONS]
    assert pair.hub.dmvpn("apply") == "revision 1 stays in force: nothing changed\n"
    assert [shown(pair.hub, name, "MainPID") for name in DAEMONS] == pids


def test_a_unit_file_that_somebody_edited_is_written_anew(pair: Pair) -> None:
    path = str(UNITS / unit("gre"))
    pair.hub.run("sed", "-i", "s/^PrivateTmp=.*/PrivateTmp=no/", path)
    pair.hub.dmvpn("apply")
    assert "PrivateTmp=yes" in pair.hub.run("cat", path)
    assert shown(pair.hub, "gre", "PrivateTmp") == "yes"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        pytest.param(("status",), None, "hq1 in acme", id="status"),
        pytest.param(("peers",), 0, "par1", id="peers"),
        pytest.param(("nhrp", "purge"), 1, "permission denied", id="purge"),
        pytest.param(("apply",), 1, "permission denied", id="apply"),
        pytest.param(("stop",), 1, "only root may", id="stop"),
        pytest.param(("uninstall", "--yes"), 1, "only root may", id="uninstall"),
    ],
)
def test_a_member_of_the_group_may_look_and_nothing_else(
    pair: Pair, words: tuple[str, ...], status: int | None, said: str
) -> None:
    as_reader = ("setpriv", "--reuid", "nobody", "--regid", "nogroup", "--groups", "dmvpn")
    assert said in pair.hub.run(*as_reader, DMVPN, *words, status=status)


def test_a_stranger_may_not_even_look(pair: Pair) -> None:
    as_nobody = ("setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups")
    assert "join group dmvpn" in pair.hub.run(*as_nobody, DMVPN, "status", status=1)


def test_after_a_power_cut_it_comes_up_by_itself_and_takes_a_half_done_change_back(pair: Pair) -> None:
    hub = pair.hub
    hub.run("sed", "-i", "s/plane: userspace/&, nhrp: {holding-time: 900}/", f"{PAPERS}/network.yaml")
    assert "revision 2 in force" in hub.dmvpn("apply", f"{PAPERS}/network.yaml")
    # As a machine that goes down before the journal is closed leaves it.
    journal = "/var/lib/dmvpn/acme/revisions/journal.json"
    hub.run("bash", "-c", f'echo \'{{"before": 1, "after": 2, "undoing": ""}}\' >{journal}; sync')
    hub.power_off()
    come_up(pair)
    until(lambda: is_serving(hub), "everything runs again")
    assert in_force(hub) == 1
    until(lambda: has_tunnel(pair), "the tunnel is up")


def come_up(pair: Pair) -> None:
    """The hub, after its power was off."""
    hub = pair.hub
    hub.power_on()
    states = ("starting", "running", "degraded")
    until(lambda: hub.run("systemctl", "is-system-running", status=None).strip() in states, "init answers")
    # Connections of the dead keep their end of it for minutes, or it went with them.
    pair.spoke.run("ip", "link", "del", "eth0", status=None)
    hub.cable(pair.spoke)  # late, as a slow card's driver
    pair.spoke.run("systemctl", "reload", unit("network"), status=None)  # its card is a new one too


def in_force(machine: Machine) -> int | None:
    found: int | None = json.loads(machine.dmvpn("history", "--json"))["in_force"]
    return found


@pytest.mark.parametrize(
    ("off", "confirm_s", "away_s", "words"),
    [
        pytest.param(Machine.power_off, 10, 10, "within 10 s", id="the time is over before it boots"),
        # A reboot takes less, on a busy machine too.
        pytest.param(Machine.shut_down, 30, 0, "in time, over a reboot", id="the time is over after it booted"),
    ],
)
def test_a_change_that_nobody_confirms_goes_back_over_a_reboot(
    pair: Pair, off: Callable[[Machine], None], confirm_s: int, away_s: float, words: str
) -> None:
    hub = pair.hub
    number = max(one["number"] for one in json.loads(hub.dmvpn("history", "--json"))["revisions"]) + 1
    change = (f"{PAPERS}/network.yaml", "--confirm", f"{confirm_s}s")
    assert f"revision {number} in force" in hub.dmvpn("apply", *change)
    boot = hub.run("cat", BOOT_ID)
    off(hub)
    time.sleep(away_s)
    come_up(pair)
    assert hub.run("cat", BOOT_ID) != boot
    until(lambda: in_force(hub) == 1, "the old revision is in force")
    until(lambda: is_serving(hub), "everything runs again")
    why = f"revision {number} was rolled back, nobody confirmed it {words}"
    assert hub.dmvpn("status", status=None).startswith(why)
    assert why in hub.run("journalctl", "-q", "--no-pager", "-b")
    assert f"rolled back: {why.partition(', ')[2]}" in hub.dmvpn("history")


def test_who_stands_by_since_a_boot_outlives_the_unit_that_began_him(pair: Pair) -> None:
    """His way back may stop that unit, and would end himself."""
    hub, boot = pair.hub, "dmvpn-acme-boot.service"
    other = "s/, nhrp: {holding-time: 900}//; s/plane: userspace/&, nhrp: {holding-time: 800}/"
    hub.run("bash", "-c", f"sed '{other}' {FILE} >{FILE}.other")
    hub.dmvpn("apply", f"{FILE}.other", "--confirm", "10m")
    hub.run("systemctl", "restart", boot)
    began = in_unit(hub, boot)
    assert began != []
    hub.run("systemctl", "stop", boot)
    assert in_unit(hub, boot) == began
    hub.run("systemctl", "start", boot)
    assert "revision 1 is in force again" in hub.dmvpn("rollback")
    until(lambda: in_unit(hub, boot) == [], "nobody stands by any more")


def in_unit(machine: Machine, unit: str) -> list[str]:
    """Who stands by in a unit's control group."""
    look = "for pid in $(pgrep -f dmvpn.operations.standby); do grep -q $0 /proc/$pid/cgroup && echo $pid; done; :"
    return machine.run("bash", "-c", look, unit).split()


def test_stop_ends_all_and_run_starts_all(pair: Pair) -> None:
    hub = pair.hub
    assert hub.dmvpn("stop") == "acme: stopped\n"
    assert hub.run("systemctl", "list-units", "--all", "--plain", "--no-legend", "dmvpn-*") == ""
    assert hub.run("find", str(UNITS), "-name", "dmvpn*") == ""
    hub.dmvpn("run")
    until(lambda: is_serving(hub), "everything runs again")


def test_uninstall_asks_first(pair: Pair) -> None:
    assert "say --yes" in pair.hub.dmvpn("uninstall", status=2)
    assert is_serving(pair.hub)


def test_uninstall_can_leave_the_papers(pair: Pair) -> None:
    said = pair.spoke.dmvpn("uninstall", "--yes", "--keep-state")
    assert "keep /etc/dmvpn/acme/pki\n" in said
    assert pair.spoke.run("find", "/etc/dmvpn", "-name", "router.key").split() != []
    assert "acme: nothing of it is in force on this machine" in pair.spoke.dmvpn("status", status=1)


def test_uninstall_leaves_the_machine_as_it_was(pair: Pair) -> None:
    said = pair.hub.dmvpn("uninstall", "--yes")
    assert f"remove {UNITS / unit('charon')}\n" in said
    assert "set net.ipv4.ip_forward = 0\n" in said
    now = footprint(pair.hub)
    assert sorted(set(now) ^ set(pair.before)) == []


# ---------------------------------------------------------------- the host's own FRR


OWN, FILE = "frr.service", f"{PAPERS}/network.yaml"


def own_is(machine: Machine) -> tuple[str, str]:
    words = ("--property=ActiveState,UnitFileState", "--value", OWN)
    active, enabled = machine.run("systemctl", "show", *words).split()
    return active, enabled


@pytest.fixture(scope="module")
def before(pair: Pair) -> list[str]:
    """The hub's footprint, after all of ours went: the distribution's FRR runs there, and starts at boot."""
    pair.hub.run("systemctl", "enable", "--quiet", "--now", OWN)
    assert own_is(pair.hub) == ("active", "enabled")
    found = footprint(pair.hub)
    pair.hub.dmvpn("pki", "install", PAPERS)
    return found


@pytest.mark.usefixtures("before")
def test_without_a_word_nothing_of_the_hosts_own_is_touched_and_the_refusal_names_the_word(pair: Pair) -> None:
    said = pair.hub.dmvpn("apply", FILE, "--router", "hq1", status=1)
    assert re.search(r"zebra \(pid [0-9]+\) of frr\.service", said), said
    assert "or write adopt: [frr] at router hq1, which has it stopped and masked while ours is here" in said
    assert own_is(pair.hub) == ("active", "enabled")
    assert pair.hub.run("systemctl", "list-units", "--all", "--plain", "--no-legend", "dmvpn-*") == ""


@pytest.mark.usefixtures("before")
def test_the_word_is_shown_before_it_is_kept(pair: Pair) -> None:
    hub = pair.hub
    hub.run("cp", FILE, f"{FILE}.without")
    hub.run("sed", "-i", "s/^      hq1:/&\\n        adopt: frr/", FILE)
    said = hub.dmvpn("plan", FILE, "--router", "hq1", status=2)
    word = "hq1 adopts frr: the machine's own is stopped and masked; uninstall brings it back\n"
    assert word in said
    assert f"  {word}" in hub.dmvpn("join", *invitation(hub), "--dry-run")
    assert own_is(hub) == ("active", "enabled")


def invitation(machine: Machine) -> tuple[str, ...]:
    """For a machine, with its file as it is there."""
    desk, bundle, words = machine.disk.parent / "papers", f"{PAPERS}/bundle", f"{PAPERS}/words"
    (desk / "there.yaml").write_text(machine.run("cat", FILE))
    (desk / "words").write_text("correct horse battery staple\n")
    (desk / "words").chmod(0o600)
    invite = (DMVPN, "invite", machine.name, "-f", "there.yaml", "-o", "bundle", "--passphrase-file", "words")
    subprocess.run(invite, cwd=desk, check=True, capture_output=True)
    for name in ("bundle", "words"):
        text = base64.b64encode((desk / name).read_bytes()).decode()
        machine.run("bash", "-c", f"umask 077; base64 -d >{PAPERS}/{name}", input=text)
    return bundle, "--passphrase-file", words


@pytest.mark.usefixtures("before")
def test_a_change_that_goes_back_gives_it_back(pair: Pair) -> None:
    hub = pair.hub
    hub.dmvpn("apply", FILE, "--router", "hq1", "--confirm", "1s")
    until(lambda: own_is(hub) == ("active", "enabled"), "nobody confirmed, so the host's own FRR is back")
    until(lambda: hub.run("systemctl", "list-units", "--all", "--no-legend", "dmvpn-*") == "", "ours are gone")


@pytest.mark.usefixtures("before")
def test_with_the_word_the_hosts_own_makes_room(pair: Pair) -> None:
    hub = pair.hub
    hub.dmvpn("apply", FILE, "--router", "hq1")
    until(lambda: is_serving(hub), "everything runs")
    assert own_is(hub) == ("inactive", "masked")
    assert hub.run("pgrep", "-c", "-x", "zebra") == "1\n"
    said = hub.dmvpn("apply", f"{FILE}.without", status=1)
    assert "adopt: frr was stopped for this network, and would start again beside ours" in said
    assert own_is(hub) == ("inactive", "masked")


@pytest.mark.usefixtures("before")
def test_it_stays_out_of_the_way_over_a_reboot(pair: Pair) -> None:
    pair.hub.shut_down()
    come_up(pair)
    until(lambda: is_serving(pair.hub), "everything runs again")
    assert own_is(pair.hub) == ("inactive", "masked")


def test_uninstall_gives_it_back_as_it_was(pair: Pair, before: list[str]) -> None:
    assert f"give back {OWN}\n" in pair.hub.dmvpn("uninstall", "--yes")
    until(lambda: own_is(pair.hub) == ("active", "enabled"), "the host's own FRR is back")
    assert sorted(set(footprint(pair.hub)) ^ set(before)) == []
