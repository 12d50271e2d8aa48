"""`python -m dmvpn.linux.host_state apply|remove FILE`: host name, time zone, resolvers and administrators' keys.

These are the machine's own, not ours: what was there before is recorded before it is replaced, and put back when the
setting goes or the network is removed, unless somebody changed it meanwhile; then his word counts. Keys stand in a
block of their own in authorized_keys(5), among those that are there.
"""

import json
import os
import pwd
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dmvpn.errors import Fault
from dmvpn.linux import files, namespaces, verbs

HOSTNAME, LOCALTIME, TIMEZONE, RESOLVERS = "etc/hostname", "etc/localtime", "etc/timezone", "etc/resolv.conf"
ZONES = "usr/share/zoneinfo"
TEXT_LIMIT_OCTETS = 1 << 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the file says; `state` is where the originals are kept, `root` stands for / in tests."""

    network: str
    state: Path
    hostname: str | None
    timezone: str | None
    resolvers: tuple[str, ...]
    admins: tuple[tuple[str, str], ...]
    root: Path = Path("/")

    @classmethod
    def load(cls, path: Path, root: Path = Path("/")) -> "Wanted":
        """Raises Fault for what `render` does not write."""
        try:
            value = json.loads(files.read_text(path, limit_octets=TEXT_LIMIT_OCTETS))
            return cls(
                network=str(value["network"]),
                state=root / str(value["state"]).lstrip("/"),
                hostname=value["hostname"],
                timezone=value["timezone"],
                resolvers=tuple(map(str, value["resolvers"])),
                admins=tuple((str(one["account"]), str(one["key"])) for one in value["admins"]),
                root=root,
            )
        except (ValueError, KeyError, TypeError) as error:
            raise Fault(str(path), f"is not what `dmvpn apply` writes: {error!r}") from error

    def texts(self) -> dict[str, str]:
        """The files to be replaced as a whole, by their path below the root."""
        found = {}
        if self.hostname is not None:
            found[HOSTNAME] = f"{self.hostname}\n"
        if self.timezone is not None and (self.root / TIMEZONE).exists():
            found[TIMEZONE] = f"{self.timezone}\n"
        if self.resolvers:
            found[RESOLVERS] = "".join(f"nameserver {address}\n" for address in self.resolvers)
        return found

    def links(self) -> dict[str, str]:
        return {} if self.timezone is None else {LOCALTIME: f"/{ZONES}/{self.timezone}"}


def apply(wanted: Wanted) -> None:
    """Make the machine so; what is gone from the file is put back as it was. Raises Fault before the first change."""
    _check(wanted)
    kept = _recorded(wanted.state)
    replaced: dict[str, str | Path] = {**wanted.texts(), **{path: Path(to) for path, to in wanted.links().items()}}
    for path in [path for path in kept["files"] if path not in replaced]:
        _put_back(wanted, kept, path)
    for path, new in replaced.items():
        found = _found(wanted.root / path)
        if path in kept["files"]:
            if found == _as_kept(new):
                continue
        else:
            kept["files"][path] = {"was": found}
        kept["files"][path]["ours"] = _as_kept(new)
        _write_state(wanted.state, kept)  # before it is done: dying here must not lose what was there
        _set(wanted.root / path, _as_kept(new))
    _keys(wanted, kept)
    if wanted.hostname is not None:
        kept.setdefault("name", socket.gethostname())
        _write_state(wanted.state, kept)
        _call(wanted, wanted.hostname)
    elif "name" in kept:
        _call(wanted, kept.pop("name"))
    _write_state(wanted.state, kept)


def remove(wanted: Wanted) -> None:
    """Everything as it was before the first apply. Raises Fault."""
    nothing = Wanted(wanted.network, wanted.state, None, None, (), (), wanted.root)
    apply(nothing)
    files.remove(wanted.state)


def _check(wanted: Wanted) -> None:
    if wanted.timezone is not None and not (wanted.root / ZONES / wanted.timezone).is_file():
        raise Fault("system.timezone", f"this machine knows no time zone {wanted.timezone}", "install tzdata")
    for account in {account for account, _ in wanted.admins}:
        _home(wanted, account)


def _recorded(state: Path) -> dict[str, Any]:
    if not state.exists():
        return {"files": {}, "accounts": []}
    kept: dict[str, Any] = json.loads(files.read_text(state, limit_octets=TEXT_LIMIT_OCTETS))
    return kept


def _write_state(state: Path, kept: dict[str, Any]) -> None:
    files.make_directory(state.parent)
    files.write(state, json.dumps(kept, indent=1) + "\n", mode=0o600)


def _found(path: Path) -> dict[str, Any] | None:
    """A file or link as it can be kept; None for nothing."""
    if path.is_symlink():
        return {"link": str(path.readlink())}
    if not path.exists():
        return None
    return {"text": files.read_text(path, limit_octets=TEXT_LIMIT_OCTETS), "mode": path.stat().st_mode & 0o777}


def _as_kept(new: str | Path) -> dict[str, Any]:
    return {"link": str(new)} if isinstance(new, Path) else {"text": new, "mode": 0o644}


def _set(path: Path, kept: dict[str, Any] | None) -> None:
    if kept is None:
        files.remove(path)
    elif "link" in kept:
        files.replace_symlink(path, Path(kept["link"]))
    else:
        files.write(path, kept["text"], mode=kept["mode"])


def _put_back(wanted: Wanted, kept: dict[str, Any], path: str) -> None:
    record = kept["files"][path]
    if _found(wanted.root / path) == record["ours"]:  # else somebody has changed it since
        _set(wanted.root / path, record["was"])
    del kept["files"][path]
    _write_state(wanted.state, kept)


def _call(wanted: Wanted, name: str) -> None:
    """The running kernel's host name; not in a test's tree."""
    if wanted.root == Path("/") and socket.gethostname() != name:
        namespaces.set_hostname(name)


# ---------------------------------------------------------------- keys


def _keys(wanted: Wanted, kept: dict[str, Any]) -> None:
    if os.environ.get(namespaces.LAB_VARIABLE):
        return  # home directories in a lab are those of the machine that it runs on
    accounts = dict.fromkeys([*kept["accounts"], *(account for account, _ in wanted.admins)])
    for account in accounts:
        keys = [key for one, key in wanted.admins if one == account]
        if account not in kept["accounts"]:
            kept["accounts"].append(account)
            _write_state(wanted.state, kept)
        _block(wanted, account, keys)
        if not keys:
            kept["accounts"].remove(account)
    _write_state(wanted.state, kept)


def _block(wanted: Wanted, account: str, keys: list[str]) -> None:
    """Our block in the account's file, as that account: what it made there must not lead root elsewhere."""
    try:
        home, uid, gid = _home(wanted, account)
    except Fault:
        if keys:
            raise
        return  # an account that is gone has no keys of ours either
    begin, end = f"# dmvpn {wanted.network}: begin", f"# dmvpn {wanted.network}: end"
    path = home / ".ssh" / "authorized_keys"
    with _as_account(uid, gid):
        before = files.read_text(path, limit_octets=TEXT_LIMIT_OCTETS) if path.exists() else ""
        if before.count(f"{begin}\n") != before.count(f"{end}\n"):
            what = f"has {begin!r} and {end!r} not alike often: what is ours cannot be told from what is not"
            raise Fault(str(path), what, "put the missing one back around our keys, or remove both with them")
        after = "".join(_without(before, begin, end))
        if keys:
            after = after if not after or after.endswith("\n") else after + "\n"
            after += "".join(f"{line}\n" for line in (begin, *keys, end))
        if after == before:
            return
        files.make_directory(path.parent, mode=0o700)
        if after:
            files.write(path, after, mode=0o600)
        else:
            files.remove(path)


def _without(text: str, begin: str, end: str) -> Iterator[str]:
    ours = False
    for line in text.splitlines(keepends=True):
        ours = ours or line.rstrip("\n") == begin
        if not ours:
            yield line
        ours = ours and line.rstrip("\n") != end


def _home(wanted: Wanted, account: str) -> tuple[Path, int, int]:
    try:
        found = pwd.getpwnam(account)
    except KeyError:
        raise Fault("system.admins", f"this machine has no account {account}", f"make it: adduser {account}") from None
    return wanted.root / found.pw_dir.lstrip("/"), found.pw_uid, found.pw_gid


@contextmanager
def _as_account(uid: int, gid: int) -> Iterator[None]:
    if os.geteuid() != 0 or uid == 0:
        yield
        return
    os.setegid(gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def main(argv: list[str]) -> int:
    known = {
        "apply": lambda path: apply(Wanted.load(path)),
        "remove": lambda path: remove(Wanted.load(path)),
        "check": lambda path: Wanted.load(path) and None,
    }
    return verbs.run("dmvpn.linux.host_state", known, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
