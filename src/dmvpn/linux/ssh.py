"""One command on another machine, by the operator's own ssh(1): its keys, agent, known hosts and configuration."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from dmvpn.errors import Fault
from dmvpn.linux import process
from dmvpn.linux.process import ProcessFault, Result

CONNECT_LIMIT_S = 10
SILENCE_S = 5  # asked after so long, and given up after three questions without an answer
LOST = 255  # ssh(1): "or with 255 if an error occurred"
# sshd hands what it is told to a shell over there. So words are such that a shell has nothing to do with them, and
# everything else travels on standard input.
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*|--?[a-z][a-z-]*", re.ASCII)


class Unreachable(Fault):
    """No session, or one that broke: nothing is known of what became of the command."""


@dataclass(frozen=True, slots=True)
class Target:
    """A machine to log in to. `alias` is the name under which known_hosts(5) keeps its key, whatever its address."""

    name: str
    host: str
    alias: str
    user: str
    port: int | None = None
    config: Path | None = None

    def argv(self, words: tuple[str, ...]) -> tuple[str, ...]:
        """Raises Fault for a word that a shell would read otherwise than it stands."""
        for word in words:
            if not _WORD.fullmatch(word):
                raise Fault(self.name, f"{word!r} cannot be a word of a command there", "send it as input")
        settings = (
            "BatchMode=yes",
            f"ConnectTimeout={CONNECT_LIMIT_S}",
            f"ServerAliveInterval={SILENCE_S}",
            "ServerAliveCountMax=3",
            "ForwardAgent=no",
            "ForwardX11=no",
            "ClearAllForwardings=yes",
            "RequestTTY=no",
            f"HostKeyAlias={self.alias}",
        )
        config = ("-F", str(self.config)) if self.config is not None else ()
        port = ("-p", str(self.port)) if self.port is not None else ()
        options = tuple(word for setting in settings for word in ("-o", setting))
        return ("ssh", *config, *options, *port, "-l", self.user, "--", self.host, *words)


def run(target: Target, words: tuple[str, ...], *, timeout_s: float, input: bytes = b"") -> Result:
    """Runs it to its end; every exit status of its own is a result.

    Raises Unreachable where ssh could not log in or lost the connection, and where it took longer than `timeout_s`.
    """
    argv = target.argv(words)
    # Locale would travel along, and a machine without it complains on standard error.
    env = {name: "C.UTF-8" for name in os.environ if name == "LANG" or name.startswith("LC_")}
    try:
        result = process.run(
            argv, timeout_s=timeout_s, input=input, env=env, package="openssh-client", accept=range(-64, 256)
        )
    except ProcessFault as fault:
        if fault.status is None and "did not end" in fault.what:
            raise Unreachable(target.name, f"did not answer within {timeout_s:g} s", _fix(target)) from fault
        raise
    if result.status == LOST:
        raise Unreachable(target.name, process.shown(result.stderr) or "ssh gave no reason", _fix(target))
    return result


def _fix(target: Target) -> str:
    return f"try: ssh -o HostKeyAlias={target.alias} {target.user}@{target.host}"
