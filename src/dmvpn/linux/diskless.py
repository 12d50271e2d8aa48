"""Alpine in RAM: what is not committed with lbu is gone after a reboot. lbu(8), "Diskless mode"; not run on Alpine."""

from dataclasses import dataclass
from pathlib import Path

from dmvpn.errors import Fault
from dmvpn.linux import process

# The root file system is in memory there, and lbu's list of what to keep beside /etc stands here.
IN_MEMORY = frozenset({"tmpfs", "ramfs", "rootfs"})
INCLUDED = Path("etc/apk/protected_paths.d/lbu.list")
COMMIT_LIMIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Machine:
    """Where to look: the root directory and its mounts, as the tests lay them out too."""

    root: Path = Path("/")
    mounts: Path = Path("/proc/self/mounts")

    def is_diskless(self) -> bool:
        """Whether / is in memory and this is Alpine."""
        if not (self.root / "etc/alpine-release").exists():
            return False
        kinds = [line.split()[2] for line in self.mounts.read_text().splitlines() if line.split()[1:2] == ["/"]]
        return bool(kinds) and kinds[-1] in IN_MEMORY

    def commands(self, kept: tuple[Path, ...]) -> tuple[tuple[str, ...], ...]:
        """What keeps /etc and these directories over a reboot."""
        there = self.root / INCLUDED
        listed = there.read_text().split() if there.exists() else []
        missing = [str(path) for path in kept if f"+{str(path).lstrip('/')}" not in listed]
        return (*((("lbu", "include", *missing),) if missing else ()), ("lbu", "commit"))

    def keep(self, kept: tuple[Path, ...]) -> str:
        """Have lbu write it to the medium. Returns why it could not, empty if it did."""
        try:
            for argv in self.commands(kept):
                process.run(argv, timeout_s=COMMIT_LIMIT_S, package="alpine-conf")
        except Fault as fault:
            return str(fault)
        return ""
