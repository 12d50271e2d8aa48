"""A machine that pretends: a checkout of scripts/setup, a directory that stands for /, and the programs it calls."""

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIMIT_S = 60

PACKAGES = (
    *("iproute2", "nftables", "procps", "iputils-ping", "tcpdump", "iperf3", "openssl", "strongswan-charon"),
    *(
        "strongswan-swanctl",
        "libcharon-extra-plugins",
        "libstrongswan-standard-plugins",
        "frr",
        "frr-pythontools",
        "keepalived",
    ),
)

TEST_PACKAGES = (
    *PACKAGES,
    "openvpn",
    "tshark",
    "strace",
    "openssh-server",
    "dhcpcd-base",
    "dnsmasq-base",
    "ppp",
    "pppoe",
)
MACHINE_PACKAGES = ("qemu-system-x86", "busybox-static", "kmod", "e2fsprogs")
KERNEL = "6.1.0-99-amd64"

# $STATE/installed lists what is installed. A package "installs" by being listed there; frr and strongswan-charon enable
# a service each, as their postinst does, and say in $STATE/policy what policy-rc.d answered at that moment.
APT_GET = r"""#!/bin/bash
printf '%s\n' "$*" >>"$STATE/apt"
simulate='' only='' verb='' other='' names=()
while [ $# -gt 0 ]; do
    case $1 in
        -o) case $2 in Dir::Etc::SourceList=*) other=yes ;; esac; shift ;;
        -s) simulate=yes ;;
        --download-only) only=yes ;;
        -*) ;;
        install | download | update | indextargets) verb=$1 ;;
        *) names+=("$1") ;;
    esac
    shift
done
if [ "$verb" = indextargets ]; then [ -e "$STATE/no-mirror" ] || echo "http://mirror.example/debian Debian"; exit; fi
if [ -n "$other" ]; then
    [ ! -e "$STATE/no-newer" ] || { [ "$verb" = update ] || echo "E: Unable to locate package"; exit 100; }
    [ ! -e "$STATE/broken-newer-$verb" ] || exit 100
    if [ "$verb" = install ]; then printf 'Inst %s (1.0 Debian:13 [amd64])\n' libc6 systemd libyang3 frr; exit; fi
fi
[ ! -e "$STATE/broken-$verb" ] || { echo "E: $verb is broken today"; exit 100; }
if [ "$verb" = update ]; then rm -f "$STATE/no-lists"; exit; fi
[ ! -e "$STATE/no-lists" ] || { echo "E: Unable to locate package ${names[0]}"; exit 100; }
if [ "$verb" = download ]; then for one in "${names[@]}"; do echo "$one" >"$one.deb"; done; exit; fi
if [ -n "$simulate" ]; then
    [ ! -e "$STATE/removes" ] || echo "Remv $(cat "$STATE/removes") [1.0]"
    for one in "${names[@]}"; do echo "Inst $one (1.0 Debian:12 [amd64])"; done
    exit
fi
if [ -n "$only" ]; then echo "Need to get 12.3 MB of archives."; exit; fi
root=$DMVPN_SETUP_ROOT
for one in "${names[@]}"; do
    echo "Unpacking $one (1.0) ..."
    echo "Setting up $one (1.0) ..."
    echo "$one" >>"$STATE/installed"
    case $one in
        frr | strongswan-charon)
            "$root/usr/sbin/policy-rc.d" "$one" start
            echo "$one $?" >>"$STATE/policy"
            ln -s "/lib/systemd/system/$one.service" "$root/etc/systemd/system/multi-user.target.wants/$one.service"
            ln -s "../init.d/$one" "$root/etc/rc2.d/S01$one"
            ln -s "../init.d/$one" "$root/etc/rc0.d/K01$one"
            ;;
    esac
done
[ ! -e "$STATE/waits" ] || { echo >"$STATE/in-dpkg"; read -r _ <"$STATE/waits"; echo done >>"$STATE/finished"; }
"""
DPKG_QUERY = r"""#!/bin/bash
shift 2
for one in "$@"; do
    grep -qx "$one" "$STATE/installed" && echo "$one installed" || echo "no packages found matching $one" >&2
done
"""
DPKG_DEB = r"""#!/bin/bash
case $2 in
    *linux-image-*)
        release=${2##*/linux-image-} release=${release%.deb}
        mkdir -p "$3/boot" "$3/$(cat "$STATE/modules" 2>/dev/null || echo lib)/modules/$release" "$3/usr/share/doc"
        echo kernel >"$3/boot/vmlinuz-$release"
        ;;
    *) mkdir -p "$3/usr/bin" && cp "$2" "$3/usr/bin/" ;;
esac
"""
APT_CACHE = r"""#!/bin/bash
[ ! -e "$STATE/no-lists" ] || exit 100
[ -e "$STATE/no-kernel" ] || printf 'linux-image-amd64\n  Depends: linux-image-6.1.0-99-amd64\n'
"""
DEPMOD = r"""#!/bin/bash
echo "$*" >>"$STATE/depmod"
[ -d "$2/lib/modules/$3" ] && touch "$2/lib/modules/$3/modules.dep"
"""
# A python3 that knows how old it is, makes a .venv, and whose pip makes .venv/bin/dmvpn.
PYTHON = r"""#!/bin/bash
age=$(cat "$STATE/python" 2>/dev/null || echo new)
case "$*" in
    -V) [ "$age" = old ] && echo "Python 3.9.2" || echo "Python 3.11.2" ;;
    '-c import sys, venv, ensurepip'*)
        [ "$age" = new ] || grep -qsx python3-venv "$STATE/installed" ;;
    '-c import sys; sys.exit'*) [ "$age" != old ] ;;
    '-c import sys; print'*) echo 3.11.2 ;;
    '-m venv '*)
        echo venv >>"$STATE/made"
        mkdir -p "$3/bin" && cp "$0" "$3/bin/python"
        echo "#!$PWD/$3/bin/python" >"$3/bin/pip"
        ;;
    '-m pip --version') ;;
    '-m pip install '*)
        echo "${*: -1}" >>"$STATE/made"
        echo "Collecting pyroute2<0.10,>=0.9.4 (from opendmvpn==0.1.0)"
        [ ! -e "$STATE/broken-pip" ] || { echo "ERROR: No matching distribution found for vici"; exit 1; }
        printf '#!/bin/sh\n' >"$(dirname "$0")/dmvpn" && chmod 755 "$(dirname "$0")/dmvpn"
        ;;
    *) exit 1 ;;
esac
"""


class Machine:
    """A checkout of the script, a directory for /, and the programs that pretend."""

    def __init__(self, directory: Path) -> None:
        self.checkout = directory / "checkout"
        self.root = directory / "root"
        self.state = directory / "state"
        self.programs = directory / "bin"
        keyrings = self.root / "usr/share/keyrings"
        for one in (
            self.checkout / "scripts",
            self.root / "usr/sbin",
            self.root / "run",
            self.state,
            self.programs,
            keyrings,
        ):
            one.mkdir(parents=True)
        for one in ("systemd/system/multi-user.target.wants", "rc0.d", "rc2.d"):
            (self.root / "etc" / one).mkdir(parents=True)
        (keyrings / "debian-archive-keyring.gpg").touch()
        shutil.copy(ROOT / "scripts" / "setup", self.checkout / "scripts")
        shutil.copy(ROOT / "pyproject.toml", self.checkout)
        self.pretend("apt-get", APT_GET)
        self.pretend("dpkg-query", DPKG_QUERY)
        self.pretend("dpkg-deb", DPKG_DEB)
        self.pretend("apt-cache", APT_CACHE)
        self.pretend("depmod", DEPMOD)
        self.pretend("uname", "#!/bin/sh\necho x86_64\n")
        self.pretend("python3", PYTHON)
        self.pretend("id", "#!/bin/sh\necho 0\n")
        self.installed(*PACKAGES)

    @property
    def policy(self) -> Path:
        return self.root / "usr/sbin/policy-rc.d"

    def pretend(self, name: str, text: str) -> None:
        path = self.programs / name
        path.write_text(text)
        path.chmod(0o755)

    def installed(self, *packages: str) -> None:
        (self.state / "installed").write_text("".join(f"{one}\n" for one in packages))

    def start(self, purpose: str = "demo", *, path: str | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(self.checkout / "scripts" / "setup"), purpose],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={
                "PATH": path or f"{self.programs}:/usr/bin:/bin",
                "STATE": str(self.state),
                "DMVPN_SETUP_ROOT": str(self.root),
                "PYTHON": str(self.programs / "python3"),
            },
            start_new_session=True,
        )

    def setup(self, purpose: str = "demo", *, path: str | None = None) -> tuple[int, list[str]]:
        with self.start(purpose, path=path) as running:
            said, _ = running.communicate(timeout=LIMIT_S)
        return running.returncode, said.splitlines()

    def noted(self, name: str) -> list[str]:
        path = self.state / name
        return path.read_text().splitlines() if path.exists() else []

    def enabled(self) -> list[str]:
        return sorted(
            str(path.relative_to(self.root / "etc"))
            for path in (self.root / "etc").rglob("*")
            if path.is_symlink() and (".wants" in str(path) or path.name.startswith("S"))
        )
