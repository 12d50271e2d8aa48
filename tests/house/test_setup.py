"""scripts/setup: its package part against an apt and a dpkg that only pretend, in a directory that stands for /."""

import os
import shutil
import signal
import stat
import subprocess
from pathlib import Path

import pytest
from pretended_machine import KERNEL, LIMIT_S, MACHINE_PACKAGES, PACKAGES, ROOT, TEST_PACKAGES, Machine


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_when_nothing_is_missing_nothing_is_said_or_done(machine: Machine) -> None:
    assert machine.setup()[0] == 0
    before = sorted(machine.checkout.rglob("*"))
    made = machine.noted("made")
    assert machine.setup() == (0, [])
    assert machine.noted("apt") == []
    assert machine.noted("made") == made
    assert sorted(machine.checkout.rglob("*")) == before


def test_missing_packages_are_installed_and_named(machine: Machine) -> None:
    machine.installed(*(one for one in PACKAGES if one not in ("frr", "nftables")))
    status, said = machine.setup()
    assert status == 0
    assert said[:2] == ["setup: Debian packages to install: nftables frr", "setup: Need to get 12.3 MB of archives"]
    assert said[-1] == "setup: done"
    assert machine.setup() == (0, [])


def test_a_long_installation_shows_how_far_it_is(machine: Machine) -> None:
    machine.installed()
    _, said = machine.setup()
    assert [line for line in said if "step" in line] == [
        "setup:   step 10 of 28: Setting up tcpdump",
        "setup:   step 20 of 28: Setting up libcharon-extra-plugins",
    ]


def test_no_service_is_started_or_left_enabled(machine: Machine) -> None:
    (machine.root / "etc/rc2.d/S01cron").symlink_to("../init.d/cron")
    machine.installed()
    status, said = machine.setup()
    assert status == 0
    assert machine.noted("policy") == ["strongswan-charon 101", "frr 101"]
    assert machine.enabled() == ["rc2.d/S01cron"]
    assert (machine.root / "etc/rc2.d/K01frr").is_symlink()
    assert "setup: leaving the service frr disabled, as it came with a package" in said
    assert not machine.policy.exists()


def test_a_service_that_was_enabled_before_stays_enabled(machine: Machine) -> None:
    (machine.root / "etc/systemd/system/multi-user.target.wants/strongswan.service").symlink_to(
        "/lib/strongswan.service"
    )
    machine.installed(*(one for one in PACKAGES if one != "tcpdump"))
    assert machine.setup()[0] == 0
    assert machine.enabled() == ["systemd/system/multi-user.target.wants/strongswan.service"]


def test_the_hosts_own_policy_comes_back_as_it_was(machine: Machine) -> None:
    machine.policy.write_text("#!/bin/sh\nexit 0\n")
    machine.policy.chmod(0o750)
    machine.installed()
    assert machine.setup()[0] == 0
    assert machine.noted("policy")[-1] == "frr 101"
    assert machine.policy.read_text() == "#!/bin/sh\nexit 0\n"
    assert stat.S_IMODE(machine.policy.stat().st_mode) == 0o750


def test_what_a_killed_run_left_of_the_policy_is_mended(machine: Machine) -> None:
    machine.policy.write_text("#!/bin/sh\n# for as long as OpenDMVPN installs packages\nexit 101\n")
    kept = machine.policy.with_name("policy-rc.d.before-opendmvpn")
    kept.write_text("the host's\n")
    machine.installed()
    assert machine.setup()[0] == 0
    assert machine.policy.read_text() == "the host's\n"
    assert not kept.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_interruption_waits_for_dpkg_and_leaves_nothing(machine: Machine, number: signal.Signals) -> None:
    for name in ("in-dpkg", "waits"):
        os.mkfifo(machine.state / name)
    machine.installed()
    with machine.start() as running:
        (machine.state / "in-dpkg").read_text()
        os.killpg(running.pid, number)
        # dpkg is let go only now, and must still be there to be let go.
        (machine.state / "waits").write_text("go\n")
        running.communicate(timeout=LIMIT_S)
    assert running.returncode == 130
    assert machine.noted("finished") == ["done"]
    assert machine.enabled() == []
    assert not machine.policy.exists()
    assert not (machine.checkout / ".venv").exists()
    (machine.state / "waits").unlink()
    assert machine.setup()[0] == 0, "and the next run goes on from there"


def test_a_package_that_would_remove_another_is_unpacked_beside(machine: Machine) -> None:
    (machine.state / "removes").write_text("libreswan")
    machine.installed(*(one for one in PACKAGES if one != "strongswan-charon"))
    for _ in range(2):
        status, said = machine.setup()
        assert status == 0
        assert said[:3] == [
            "setup: Debian packages to install: strongswan-charon",
            "setup: installing strongswan-charon would remove: libreswan",
            "setup: so nothing is installed; they are unpacked into .private/ instead, beside the host's",
        ]
    assert (machine.checkout / ".private/usr/bin/strongswan-charon.deb").exists()
    assert len([line for line in machine.noted("apt") if line.startswith("download")]) == 1, "the second run has them"
    status, said = machine.setup("test")
    assert status == 1
    assert said[-1] == (
        "setup: labs use them, make demo works; for make test use a machine or a container without libreswan"
    )
    assert "strongswan-charon" not in machine.noted("installed")


def test_package_lists_are_read_when_there_are_none(machine: Machine) -> None:
    (machine.state / "no-lists").touch()
    machine.installed()
    status, said = machine.setup()
    assert status == 0
    assert "setup: reading the package lists" in said


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        pytest.param(
            "broken-update no-lists", "apt-get cannot install them: E: Unable to locate package iproute2", id="no lists"
        ),
        pytest.param("broken-install", "apt-get cannot install them: E: install is broken today", id="apt is broken"),
        pytest.param("broken-pip", "pip failed: ERROR: No matching distribution found for vici", id="pip is broken"),
    ],
)
def test_what_fails_is_said_in_one_line_and_tried_again_next_time(machine: Machine, broken: str, says: str) -> None:
    for name in broken.split():
        (machine.state / name).touch()
    machine.installed()
    status, said = machine.setup()
    assert status == 1
    assert said[-1].startswith(f"setup: {says}")
    for name in broken.split():
        (machine.state / name).unlink()
    assert machine.setup()[0] == 0


def test_who_is_not_root_is_told_what_root_may_run(machine: Machine) -> None:
    machine.pretend("id", "#!/bin/sh\necho 1000\n")
    machine.installed(*(one for one in PACKAGES if one not in ("frr", "nftables")))
    expected = "setup: not root: run it as root, or let root run apt-get install nftables frr"
    assert machine.setup() == (1, [expected])
    machine.installed(*PACKAGES)
    assert machine.setup()[0] == 0, "with the packages there, root is not needed"


def test_without_apt_the_programs_are_looked_for(machine: Machine) -> None:
    for name in ("apt-get", "dpkg-query"):
        (machine.programs / name).unlink()
    needed = "bash cat chmod cmp cp cut dirname flock grep mkdir rm sed sha256sum tail tee"
    for name in needed.split():
        (machine.programs / name).symlink_to(str(shutil.which(name)))
    for name in ("ip", "nft", "ps", "ping", "tcpdump", "iperf3", "openssl", "vtysh", "keepalived"):
        machine.pretend(name, "#!/bin/sh\n")
    path = str(machine.programs)
    assert machine.setup(path=path) == (1, ["setup: there is no apt-get here: install what gives swanctl"])
    machine.pretend("swanctl", "#!/bin/sh\n")
    status, said = machine.setup(path=path)
    assert (status, said[-1]) == (0, "setup: done")


@pytest.mark.parametrize(
    ("age", "status", "says"),
    [
        pytest.param("old", 1, "setup: Python 3.11 or newer is needed, and", id="too old"),
        pytest.param("without venv", 0, "setup: Debian packages to install: python3 python3-venv", id="no venv"),
    ],
)
def test_a_python_that_will_not_do(machine: Machine, age: str, status: int, says: str) -> None:
    (machine.state / "python").write_text(age)
    done, said = machine.setup()
    assert done == status
    assert said[0].startswith(says)


def test_the_purposes_share_a_venv_and_the_larger_serves_the_smaller(machine: Machine) -> None:
    machine.installed(*TEST_PACKAGES, *MACHINE_PACKAGES)
    for purpose in ("demo", "test", "demo", "bench"):
        assert machine.setup(purpose)[0] == 0
    assert machine.noted("made") == ["venv", ".", ".[dev]"]


def test_a_changed_requirement_is_installed_and_a_changed_tool_setting_is_not(machine: Machine) -> None:
    machine.setup()
    project = machine.checkout / "pyproject.toml"
    project.write_text(project.read_text() + "\n[tool.other]\nkey = 1\n")
    assert machine.setup() == (0, [])
    project.write_text(project.read_text().replace("vici>=6.0", "vici>=6.1"))
    assert machine.setup()[1][0] == "setup: installing OpenDMVPN and its Python packages into .venv"
    assert machine.noted("made") == ["venv", ".", "."]


def test_a_checkout_that_was_moved_gets_a_new_venv(machine: Machine) -> None:
    machine.setup()
    moved = machine.checkout.with_name("elsewhere")
    machine.checkout.rename(moved)
    machine.checkout = moved
    assert machine.setup()[0] == 0
    assert machine.noted("made") == ["venv", ".", "venv", "."]


def test_two_at_once_do_it_once(machine: Machine) -> None:
    with machine.start() as one, machine.start() as other:
        for running in (one, other):
            running.communicate(timeout=LIMIT_S)
            assert running.returncode == 0
    assert machine.noted("made") == ["venv", "."]


def test_an_unknown_purpose_is_refused(machine: Machine) -> None:
    assert machine.setup("all") == (1, ["setup: unknown purpose all; write demo, test, bench or vm"])


# ---------------------------------------------------------------- the kernel for virtual machines


@pytest.mark.parametrize("modules", ["lib", "usr/lib"])
def test_a_kernel_is_unpacked_once_and_not_installed(machine: Machine, modules: str) -> None:
    (machine.state / "modules").write_text(modules)
    machine.installed(*TEST_PACKAGES, *MACHINE_PACKAGES)
    status, said = machine.setup("vm")
    assert (status, said[-1]) == (0, "setup: done")
    assert f"setup: unpacking the kernel {KERNEL} into .vm/ for virtual machines; it is not installed" in said
    assert (machine.checkout / f".vm/boot/vmlinuz-{KERNEL}").exists()
    assert (machine.checkout / f".vm/lib/modules/{KERNEL}/modules.dep").exists()
    assert not any(one.startswith("linux-image") for one in machine.noted("installed"))
    assert machine.setup("vm") == machine.setup("test") == (0, [])
    assert len([line for line in machine.noted("apt") if line.startswith("download")]) == 1


def test_what_starts_a_virtual_machine_is_installed_for_tests_and_not_for_the_demo(machine: Machine) -> None:
    machine.installed(*TEST_PACKAGES)
    assert machine.setup("demo")[0] == 0
    assert not (machine.checkout / ".vm").exists()
    _, said = machine.setup("test")
    assert said[0] == f"setup: Debian packages to install: {' '.join(MACHINE_PACKAGES)}"
    assert set(MACHINE_PACKAGES) <= set(machine.noted("installed"))


@pytest.mark.parametrize(
    ("spoilt", "says"),
    [
        pytest.param("no-kernel", "apt knows no linux-image-amd64", id="another distribution"),
        pytest.param(
            "broken-download", f"apt-get could not download linux-image-{KERNEL}; is there a network?", id="no network"
        ),
    ],
)
def test_without_a_kernel_the_tests_go_on_and_the_machine_says_why(machine: Machine, spoilt: str, says: str) -> None:
    (machine.state / spoilt).touch()
    machine.installed(*TEST_PACKAGES, *MACHINE_PACKAGES)
    status, said = machine.setup("test")
    assert status == 0
    assert f"setup: no virtual machine: {says}; its tests will be skipped by name" in said
    status, said = machine.setup("vm")
    assert (status, said[-1]) == (1, f"setup: no virtual machine: {says}")
    assert not (machine.checkout / ".vm").exists()
    (machine.state / spoilt).unlink()
    assert machine.setup("vm")[0] == 0, "and the next run tries again"


# ---------------------------------------------------------------- a newer FRR for routers of labs


def test_a_newer_frr_is_unpacked_once_with_its_libraries_and_not_installed(machine: Machine) -> None:
    machine.installed(*TEST_PACKAGES, *MACHINE_PACKAGES)
    status, said = machine.setup("vm")
    assert status == 0
    assert "setup: unpacking FRR 10 and its libraries into .frr10/ for routers of labs; nothing is installed" in said
    unpacked = sorted(path.name for path in (machine.checkout / ".frr10/usr/bin").iterdir())
    assert unpacked == ["frr-pythontools.deb", "frr.deb", "libc6.deb", "libyang3.deb"]
    assert "libyang3" not in machine.noted("installed")
    assert not (machine.checkout / ".frr10/apt").exists()
    asked = len(machine.noted("apt"))
    assert machine.setup("vm") == (0, [])
    assert len(machine.noted("apt")) == asked, "the second time nobody is asked"


@pytest.mark.parametrize(
    ("spoilt", "says"),
    [
        pytest.param("no-mirror", "apt reads from no mirror of Debian", id="another distribution"),
        pytest.param("no-newer", "trixie's package list cannot be had from this machine's mirror", id="no such suite"),
        pytest.param(
            "broken-newer-download", "apt-get could not download it; is there a network?", id="gone in between"
        ),
    ],
)
def test_without_a_newer_frr_all_else_goes_on_and_the_next_run_tries_again(
    machine: Machine, spoilt: str, says: str
) -> None:
    (machine.state / spoilt).touch()
    machine.installed(*TEST_PACKAGES, *MACHINE_PACKAGES)
    status, said = machine.setup("vm")
    assert (status, said[-1]) == (0, "setup: done")
    assert f"setup: no FRR 10: {says}; its tests will be skipped by name" in said
    assert not (machine.checkout / ".frr10").exists()
    (machine.state / spoilt).unlink()
    assert machine.setup("vm")[0] == 0
    assert (machine.checkout / ".frr10/.whole").exists()


def test_another_processor_has_no_virtual_machine(machine: Machine) -> None:
    machine.pretend("uname", "#!/bin/sh\necho aarch64\n")
    machine.installed(*TEST_PACKAGES)
    why = "no virtual machine: it needs an x86-64 processor, this is aarch64"
    status, said = machine.setup("test")
    assert (status, said[0]) == (0, f"setup: {why}; its tests will be skipped by name")
    assert machine.noted("apt") == []
    assert machine.setup("vm") == (1, [f"setup: {why}"])


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs the Debian package shellcheck")
@pytest.mark.parametrize("script", ["scripts/setup", ".ci/run", "src/dmvpn/lab/vm_guest.sh"])
def test_the_scripts_please_shellcheck(script: str) -> None:
    done = subprocess.run(["shellcheck", str(ROOT / script)], capture_output=True, text=True, check=False)
    assert done.stdout == ""
