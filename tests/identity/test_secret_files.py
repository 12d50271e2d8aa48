"""Secrets on their way to the disk: a watcher looks at every file of the authority from its first moment on."""

import ctypes
import os
import stat
import struct
import threading
from pathlib import Path

from renewal_cases import router

from dmvpn.daemon.papers import Pair, Papers
from dmvpn.linux import files
from dmvpn.operations import pfx, pki, reading

IN_CREATE, IN_MOVED_TO, IN_MODIFY = 0x100, 0x80, 0x2
WORDS = "correct horse battery"
FILE = (Path(__file__).parents[2] / "examples" / "demo.yaml").read_text()


class Watcher:
    """Every name that appears in a directory, and who could read it at that moment. inotify(7)."""

    def __init__(self, directory: Path) -> None:
        self.open_to_others: list[str] = []
        self.seen: set[str] = set()
        self._directory = directory
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(os.O_CLOEXEC)
        assert (
            libc.inotify_add_watch(self._descriptor, str(directory).encode(), IN_CREATE | IN_MOVED_TO | IN_MODIFY) >= 0
        )
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while True:
            octets = os.read(self._descriptor, 65536)
            while octets:
                _, _, _, length = struct.unpack_from("iIII", octets)
                name = octets[16 : 16 + length].rstrip(b"\0").decode()
                octets = octets[16 + length :]
                if name == "end":
                    return
                self._look(name)

    def _look(self, name: str) -> None:
        self.seen.add(name)
        try:
            facts = (self._directory / name).lstat()
        except FileNotFoundError:
            return
        secret = "key" in name or name.endswith("pfx") or "revoked" in name
        if secret and stat.S_ISREG(facts.st_mode) and facts.st_mode & 0o077:
            self.open_to_others.append(f"{name} {facts.st_mode:o}")

    def end(self) -> None:
        (self._directory / "end").touch()
        self._thread.join(timeout=10)
        os.close(self._descriptor)


def test_no_secret_is_readable_by_others_at_any_moment(tmp_path: Path) -> None:
    file = reading.from_text(FILE, "demo.yaml", tmp_path)
    top, kept = tmp_path / "pki", Papers(tmp_path / "router")
    files.make_directory(top)
    kept.make_directories()
    before = os.umask(0)
    watchers = [Watcher(path) for path in (top, kept.pki, kept.swanctl / "private", tmp_path)]
    try:
        pki.init(file, top, WORDS)
        issued = pki.issue(file, top, "par1", unlock=lambda _: WORDS)
        kept.pending_key()
        kept.swap(Pair(*router()))
        pfx.export_papers(issued.directory, tmp_path / "par1.pfx", WORDS, pfx.For.PRESENT)
    finally:
        os.umask(before)
        for watcher in watchers:
            watcher.end()
    assert [one for watcher in watchers for one in watcher.open_to_others] == []
    assert {"ca.key", "router.key", "request.key", "next.key", "par1.pfx"} <= set().union(
        *(one.seen for one in watchers)
    )


def test_a_watcher_sees_what_is_open(tmp_path: Path) -> None:
    watcher = Watcher(tmp_path)
    (tmp_path / "open.key").write_text("x")
    watcher.end()
    assert watcher.open_to_others
