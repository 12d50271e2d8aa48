"""A router under Debian's openrc, unpacked by scripts/setup and laid over a machine's root; its PID 1 only reaps."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from system_machines import PAPERS, ROOT, Machine, carry, make_papers, need_machines, until

pytestmark = [pytest.mark.kernel, pytest.mark.lab, pytest.mark.patient]

UNPACKED = ROOT / ".openrc"
INIT = "mkdir -p /run/openrc; for level in sysinit boot default; do openrc $level; done; while :; do sleep 1; done"
NAMES = ("boot", "nftables", "network", "charon", "frr-run", "zebra", "bfdd", "bgpd", "learned", "gre", "dmvpnd")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    need_machines()
    if not (UNPACKED / ".whole").exists():
        pytest.skip("needs .openrc/, which scripts/setup test unpacks where there is an apt-get")
    directory = tmp_path_factory.mktemp("openrc")
    papers = directory / "papers"
    papers.mkdir()
    make_papers(papers)
    machine = Machine("hq1", directory, ("bash", "-c", INIT), unpacked=str(UNPACKED))
    try:
        boot(machine)
        carry(machine, papers)
        machine.dmvpn("pki", "install", PAPERS)
        machine.dmvpn("apply", f"{PAPERS}/network.yaml", "--router", "hq1")
        yield machine
    finally:
        machine.power_off()


def boot(machine: Machine) -> None:
    machine.power_on()
    for name in ("eth0", "eth1"):
        machine.run("ip", "link", "add", name, "type", "veth", "peer", "name", f"far-{name}")
        for end in (name, f"far-{name}"):
            machine.run("ip", "link", "set", end, "up")
    level = Path("/run/openrc/softlevel")
    until(lambda: machine.run("cat", str(level), status=None).strip() == "default", "the runlevel is reached")


def is_started(machine: Machine, name: str) -> bool:
    return "started" in machine.run("rc-service", f"dmvpn-acme-{name}", "status", status=None)


def serves(machine: Machine) -> bool:
    return all(is_started(machine, name) for name in NAMES[1:]) and "hq1 in acme" in machine.dmvpn(
        "status", status=None
    )


def test_apply_has_openrc_keep_the_services(machine: Machine) -> None:
    assert serves(machine)
    assert machine.run("ls", "/etc/runlevels/default").split() == sorted(f"dmvpn-acme-{name}" for name in NAMES)
    charon = machine.run("pgrep", "-x", "charon").strip()
    seen = machine.run("cut", "-d", " ", "-f", "4,5", f"/proc/{charon}/mountinfo")
    assert "/strongswan.conf /etc/strongswan.conf\n" in seen


def test_a_killed_daemon_comes_back(machine: Machine) -> None:
    first = machine.run("pgrep", "-x", "bgpd").strip()
    machine.run("kill", "-9", first)
    until(lambda: machine.run("pgrep", "-x", "bgpd", status=None).strip() not in ("", first), "bgpd is started again")


def test_rules_that_somebody_flushes_are_put_back_through_openrc(machine: Machine) -> None:
    machine.run("nft", "flush", "ruleset")
    until(lambda: "table inet dmvpn_acme" in machine.run("nft", "list", "tables"), "the table is back")


MOVE = ("apply", f"{PAPERS}/network.yaml", "--services", "supervisor")
REFUSING = '#!/bin/sh\ncase "$*" in *staged*) exit 1;; esac\nexec /srv/vtysh "$@"\n'
CURRENT, KEEPER = "/etc/dmvpn/acme/current", "/etc/dmvpn/acme/services"


def pids(machine: Machine) -> list[str]:
    """Of what carries the tunnel and its routes."""
    return [machine.run("pgrep", "-x", name).strip() for name in ("charon", "zebra", "bgpd")]


def test_a_move_to_another_keeper_is_shown_as_what_it_is(machine: Machine) -> None:
    said = machine.dmvpn("plan", *MOVE[1:], status=2)
    assert "no tunnel restarts" not in said
    assert "charon restarts: " in said


def test_a_move_to_another_keeper_that_is_refused_stops_nothing(machine: Machine) -> None:
    before = pids(machine)
    machine.run("sed", "-i", "$a ! by hand", f"{CURRENT}/bgpd.conf")
    assert "bgpd.conf: edited by hand since it was applied" in machine.dmvpn(*MOVE, status=1)
    machine.run("sed", "-i", "$d", f"{CURRENT}/bgpd.conf")
    # FRR's own checker refuses what is staged.
    machine.run("cp", "/usr/bin/vtysh", "/srv/vtysh")
    machine.run("bash", "-c", "cat >/usr/bin/vtysh.new; chmod 755 /usr/bin/vtysh.new", input=REFUSING)
    machine.run("mv", "/usr/bin/vtysh.new", "/usr/bin/vtysh")
    machine.run("sed", "-i", "s/asn: 65000/asn: 65010/", f"{PAPERS}/network.yaml")
    said = machine.dmvpn(*MOVE, status=1)
    machine.run("mv", "/srv/vtysh", "/usr/bin/vtysh")
    machine.run("sed", "-i", "s/asn: 65010/asn: 65000/", f"{PAPERS}/network.yaml")
    assert "check frr" in said
    assert "revision 1 is in force" in said
    assert pids(machine) == before
    assert machine.run("cat", KEEPER) == "openrc\n"
    assert serves(machine)


def test_a_move_that_fails_has_openrc_start_all_again(machine: Machine) -> None:
    """The supervisor cannot listen there."""
    machine.run("mkdir", "-p", "/run/dmvpn/acme/supervisor.sock/full")
    said = machine.dmvpn(*MOVE, status=1)
    machine.run("rm", "-r", "/run/dmvpn/acme/supervisor.sock")
    assert "supervisor" in said
    assert "revision 1 is in force" in said
    assert machine.run("cat", KEEPER) == "openrc\n"
    assert serves(machine)


def test_a_move_that_nobody_confirms_goes_back_to_openrc(machine: Machine) -> None:
    number = 1 + max(one["number"] for one in json.loads(machine.dmvpn("history", "--json"))["revisions"])
    assert f"revision {number} in force" in machine.dmvpn(*MOVE, "--confirm", "1s")
    until(lambda: "supervisor" not in machine.run("cat", KEEPER), "openrc is on record again")
    until(lambda: serves(machine), "openrc's services serve")
    assert machine.run("pgrep", "-f", "dmvpn.linux.supervisor", status=1) == ""
    assert len(machine.run("pgrep", "-x", "charon").split()) == 1


def test_it_comes_up_by_itself_after_a_power_cut(machine: Machine) -> None:
    machine.power_off()
    boot(machine)
    until(lambda: serves(machine), "everything runs again")


def unconfirmed(machine: Machine) -> int:
    """The number of a revision that waits to be confirmed."""
    machine.run("sed", "-i", "s/plane: userspace/&, nhrp: {holding-time: 900}/", f"{PAPERS}/network.yaml")
    machine.dmvpn("apply", f"{PAPERS}/network.yaml", "--confirm", "10m")
    machine.run("sed", "-i", "s/, nhrp: {holding-time: 900}//", f"{PAPERS}/network.yaml")
    return max(one["number"] for one in json.loads(machine.dmvpn("history", "--json"))["revisions"])


def stands_by(machine: Machine) -> bool:
    return machine.run("pgrep", "-f", "dmvpn.operations.standby", status=None) != ""


def test_stop_takes_back_what_waits_to_be_confirmed_and_nobody_starts_it_again(machine: Machine) -> None:
    number = unconfirmed(machine)
    assert stands_by(machine)
    why = f"revision {number} was rolled back, root stopped the network before it was confirmed; revision 1 is in force"
    assert machine.dmvpn("stop") == f"{why} again\nacme: stopped\n"
    assert not stands_by(machine)
    assert machine.run("pgrep", "-x", "charon", status=1) == ""
    assert machine.dmvpn("run") == "acme: revision 1 runs\n"
    assert serves(machine)
    assert "waits" not in machine.dmvpn("history")


def test_a_service_of_the_hosts_own_cannot_be_adopted_here(machine: Machine) -> None:
    machine.run("sed", "s/^      hq1:/&\\n        adopt: frr/", "-i", f"{PAPERS}/network.yaml")
    said = machine.dmvpn("apply", f"{PAPERS}/network.yaml", status=1)
    assert "frr: only systemd's services can be adopted, and ours are kept by openrc; stop them yourself" in said
    assert serves(machine)


def test_uninstall_leaves_nothing_even_where_a_change_waits(machine: Machine) -> None:
    machine.run("sed", "-i", "/adopt: frr/d", f"{PAPERS}/network.yaml")
    number = unconfirmed(machine)
    assert f"take back revision {number}, which nobody confirmed\n" in machine.dmvpn("uninstall", "--yes")
    assert not stands_by(machine)
    assert machine.run("find", "/etc", "-name", "*dmvpn*") == ""
    assert machine.run("ls", "/run/dmvpn", "/var/lib/dmvpn/acme", status=2).count("No such file") == 2
    assert machine.run("nft", "list", "tables") == ""
    assert machine.run("pgrep", "-x", "charon", status=1) == ""
