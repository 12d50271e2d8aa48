"""charon over vici: connections in, SAs, certificates and events out. strongSwan, src/libcharon/plugins/vici/README.md.

One ViciSession serves one thread at a time; events come over a connection of their own.
"""

import socket
import struct
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any, Self

from vici import Session
from vici.exception import CommandException, DeserializationException, EventUnknownException, SessionException

from dmvpn.errors import Fault
from dmvpn.linux import certificate_names, process
from dmvpn.linux.pace import patience

_ANSWER_LIMIT_S = 15.0
_LOAD_LIMIT_S = 20.0
_KEY_DIRECTORIES = ("x509", "x509ca", "x509crl", "x509ocsp", "x509aa", "pubkey", "private", "rsa", "ecdsa", "pkcs8")
# With it charon answers when it has begun, not when it is done (vici_control.c).
_AT_ONCE = "-1"


class OnLoss(Enum):
    """What charon does when the peer closes an SA or falls silent."""

    CLEAR = "clear"
    RESTART = "restart"


class Mode(StrEnum):
    """How ESP wraps packets. RFC 4301 3.2; transport is what other vendors' DMVPN uses."""

    TUNNEL = "tunnel"
    TRANSPORT = "transport"


@dataclass(frozen=True, slots=True)
class PeerConnection:
    """A connection towards one peer: certificates on both sides, IKEv2. Times are seconds.

    `local_ts` and `remote_ts` are selectors such as 100.64.0.11/32[gre]. An identity of None is, for the local side,
    the certificate's subject, and for the remote side anybody whose certificate `authority` has issued.
    """

    name: str
    local_port: int
    remote_address: str
    remote_port: int
    remote_identity: str | None
    certificate: Path
    authority: Path
    local_ts: str
    remote_ts: str
    ike_proposal: str
    esp_proposal: str
    rekey_s: int
    dpd_delay_s: int
    child: str = "gre"
    local_identity: str | None = None
    on_loss: OnLoss = OnLoss.CLEAR
    mode: Mode = Mode.TUNNEL


@dataclass(frozen=True, slots=True)
class ChildSa:
    """A CHILD_SA. `state` is charon's word, "INSTALLED" when it carries traffic; selectors as charon writes them."""

    name: str
    unique_id: str
    state: str
    local_ts: tuple[str, ...]
    remote_ts: tuple[str, ...]
    octets_in: int
    octets_out: int
    packets_in: int
    packets_out: int
    installed_s: float  # age
    mode: str  # charon's word, "TUNNEL" or "TRANSPORT"; empty if it does not say


@dataclass(frozen=True, slots=True)
class IkeSa:
    """An IKE_SA. `state` is charon's word, "ESTABLISHED" when it is up; `established_s` its age, 0 before that.

    `initiator_spi` is hex, and the same at both ends. `answered`: the responder has said something at all.
    """

    name: str
    unique_id: str
    initiator: bool
    initiator_spi: str
    answered: bool
    state: str
    local_host: str
    local_port: int
    remote_host: str
    remote_port: int
    local_id: str
    remote_id: str
    established_s: float
    children: tuple[ChildSa, ...]


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """An end entity's certificate that charon knows, its own included. `identities`: subject as charon writes it, and
    the subject's alternative names. `not_before` is Unix time."""

    der: bytes
    identities: tuple[str, ...]
    not_before: float


class IkeEventKind(StrEnum):
    IKE_UPDOWN = "ike-updown"
    CHILD_UPDOWN = "child-updown"
    IKE_REKEY = "ike-rekey"
    CHILD_REKEY = "child-rekey"


@dataclass(frozen=True, slots=True)
class IkeEvent:
    """Something happened to the SA of a connection. `up` is None for a rekeying."""

    kind: IkeEventKind
    connection: str
    unique_id: str
    up: bool | None


class ViciSession:
    """A connection to a charon's vici socket. Every trouble is a Fault; after one that says so, open another."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket = _connect(path, patience(_ANSWER_LIMIT_S))
        self._session = Session(self._socket)

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def version(self) -> str:
        """charon's version, such as 5.9.8."""
        with _faults("version"):
            return _text(self._session.version(), "version")

    def peer_pid(self) -> int:
        """The process at the other end of the socket: charon. unix(7) SO_PEERCRED."""
        credentials = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid: int = struct.unpack("3i", credentials)[0]
        return pid

    def uptime_s(self) -> str:
        """How long charon runs, in its words."""
        with _faults("stats"):
            return _text(self._session.stats().get("uptime", {}), "running")

    def load_all(self, swanctl_conf: Path, swanctl_dir: Path, scratch: Path | None = None) -> None:
        """Keys, certificates and connections of a file; connections that are not in it are unloaded, SAs stay.

        `scratch` is a directory of ours for what swanctl needs meanwhile. Raises Fault with what swanctl said.
        """
        # swanctl looks for keys beside the file it is given, whatever SWANCTL_DIR says; ours are elsewhere.
        with tempfile.TemporaryDirectory(prefix="dmvpn-swanctl-", dir=scratch) as name:
            directory = Path(name)
            (directory / "swanctl.conf").symlink_to(swanctl_conf.absolute())
            for kind in _KEY_DIRECTORIES:
                if (swanctl_dir / kind).is_dir():
                    (directory / kind).symlink_to((swanctl_dir / kind).absolute())
            process.run(
                (
                    "swanctl",
                    "--load-all",
                    "--noprompt",
                    "--uri",
                    f"unix://{self._path}",
                    "--file",
                    str(directory / "swanctl.conf"),
                ),
                timeout_s=_LOAD_LIMIT_S,
                env={"SWANCTL_DIR": name},
                package="strongswan-swanctl",
            )

    def load_conn(self, connection: PeerConnection) -> None:
        """Load or replace a connection; SAs that stand keep theirs. Raises Fault."""
        with _faults(f"connection {connection.name}"):
            self._session.load_conn({connection.name: _settings(connection)})

    def unload_conn(self, name: str) -> None:
        """Forget a connection; one that is not loaded is no fault. SAs stay."""
        with _faults(f"connection {name}"):
            try:
                self._session.unload_conn({"name": name})
            except CommandException as error:
                if "not found" not in str(error):
                    raise

    def initiate(self, connection: str, child: str = "gre") -> None:
        """Begin to set up the child; whether it comes up is told by events. Raises Fault if there is no such child."""
        with _faults(f"initiate {connection}"):
            self._session.request("initiate", {"ike": connection, "child": child, "timeout": _AT_ONCE})

    def terminate(self, unique_id: str) -> None:
        """Begin to end one IKE_SA and its children: the peer is told, as often as it takes. Raises Fault."""
        with _faults(f"terminate SA {unique_id}"):
            self._session.request("terminate", {"ike-id": unique_id, "timeout": _AT_ONCE})

    def list_sas(self) -> tuple[IkeSa, ...]:
        """All IKE_SAs, those being set up and ended included."""
        with _faults("list-sas"):
            return tuple(
                _ike_sa(name, values)
                for message in self._session.list_sas()
                for name, values in message.items()
                if isinstance(values, Mapping)
            )

    def connections(self) -> tuple[str, ...]:
        with _faults("get-conns"):
            return tuple(name.decode() for name in self._session.get_conns().get("conns", ()))

    def peer_certificates(self) -> tuple[PeerCertificate, ...]:
        """End entities' certificates, those that peers sent and charon verified included. Not sorted."""
        found = []
        with _faults("list-certs"):
            for message in self._session.list_certs({"type": "X509", "flag": "NONE"}):
                der = message.get("data", b"")
                names = certificate_names.names_of(der)
                identities = tuple(name for name in (names.subject, *names.alternatives) if name)
                found.append(PeerCertificate(der, identities, names.not_before))
        return tuple(found)


def watch_events(path: Path, callback: Callable[[IkeEvent], None]) -> None:
    """Tell every event, from a connection of its own, until charon ends it. Blocks: for a thread. Raises Fault."""
    with _connect(path, None) as connected, _faults("events"):
        for kind, message in Session(connected).listen([kind.value for kind in IkeEventKind]):
            for event in _events_of(IkeEventKind(kind.decode()), message):
                callback(event)


def _connect(path: Path, timeout_s: float | None) -> socket.socket:
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    connected.settimeout(timeout_s)
    try:
        connected.connect(str(path))
    except OSError as error:
        connected.close()
        fix = "is charon running?" if isinstance(error, FileNotFoundError | ConnectionRefusedError) else ""
        raise Fault(str(path), f"no answer from charon: {(error.strerror or str(error)).lower()}", fix) from error
    return connected


@contextmanager
def _faults(what: str) -> Iterator[None]:
    try:
        yield
    except CommandException as error:
        raise Fault("charon", f"{what}: {str(error).removeprefix('Command failed: ')}") from error
    except TimeoutError as error:
        raise Fault("charon", f"{what}: no answer within {_ANSWER_LIMIT_S:g} s") from error
    except OSError as error:
        raise Fault("charon", f"{what}: {(error.strerror or str(error)).lower()}") from error
    except (SessionException, EventUnknownException, DeserializationException) as error:
        raise Fault("charon", f"{what}: {error}") from error


def _settings(connection: PeerConnection) -> dict[str, Any]:
    """The connection as vici wants it: as in swanctl.conf, with certificates by value."""
    try:
        certificate, authority = connection.certificate.read_bytes(), connection.authority.read_bytes()
    except OSError as error:
        raise Fault(str(error.filename), (error.strerror or str(error)).lower(), "run `dmvpn pki install`") from error
    restart = connection.on_loss is OnLoss.RESTART
    remote = {"auth": "pubkey", "cacerts": [authority]}
    if connection.remote_identity is not None:
        remote["id"] = connection.remote_identity
    local = {"auth": "pubkey", "certs": [certificate]}
    if connection.local_identity is not None:
        local["id"] = connection.local_identity
    return {
        "version": "2",
        "remote_addrs": [connection.remote_address],
        "local_port": str(connection.local_port),
        "remote_port": str(connection.remote_port),
        "proposals": [connection.ike_proposal],
        # Of two SAs made by both ends at once we say which one goes, and only without MOBIKE does dead-peer detection
        # notice that a NAT's mapping has changed.
        "unique": "never",
        "mobike": "no",
        "dpd_delay": f"{connection.dpd_delay_s}s",
        "rekey_time": f"{connection.rekey_s * 2}s",
        "local": local,
        "remote": remote,
        "children": {
            connection.child: {
                "mode": connection.mode.value,
                "local_ts": [connection.local_ts],
                "remote_ts": [connection.remote_ts],
                "esp_proposals": [connection.esp_proposal],
                "rekey_time": f"{connection.rekey_s}s",
                "dpd_action": "restart" if restart else "clear",
                "close_action": "start" if restart else "none",
            }
        },
    }


def _text(values: Mapping[str, Any], key: str) -> str:
    value = values.get(key, b"")
    return value.decode(errors="replace") if isinstance(value, bytes) else ""


def _integer(values: Mapping[str, Any], key: str) -> int:
    text = _text(values, key)
    return int(text) if text.isdecimal() else 0


def _ike_sa(name: str, values: Mapping[str, Any]) -> IkeSa:
    return IkeSa(
        name=name,
        unique_id=_text(values, "uniqueid"),
        initiator=_text(values, "initiator") == "yes",
        initiator_spi=_text(values, "initiator-spi"),
        answered=_text(values, "responder-spi").strip("0") != "",
        state=_text(values, "state"),
        local_host=_text(values, "local-host"),
        local_port=_integer(values, "local-port"),
        remote_host=_text(values, "remote-host"),
        remote_port=_integer(values, "remote-port"),
        local_id=_text(values, "local-id"),
        remote_id=_text(values, "remote-id"),
        established_s=float(_integer(values, "established")),
        children=tuple(_child_sa(child) for child in values.get("child-sas", {}).values()),
    )


def _child_sa(values: Mapping[str, Any]) -> ChildSa:
    return ChildSa(
        name=_text(values, "name"),
        unique_id=_text(values, "uniqueid"),
        state=_text(values, "state"),
        local_ts=tuple(selector.decode() for selector in values.get("local-ts", ())),
        remote_ts=tuple(selector.decode() for selector in values.get("remote-ts", ())),
        octets_in=_integer(values, "bytes-in"),
        octets_out=_integer(values, "bytes-out"),
        packets_in=_integer(values, "packets-in"),
        packets_out=_integer(values, "packets-out"),
        installed_s=float(_integer(values, "install-time")),
        mode=_text(values, "mode"),
    )


def _events_of(kind: IkeEventKind, message: Mapping[str, Any]) -> Iterator[IkeEvent]:
    rekeyed = kind in (IkeEventKind.IKE_REKEY, IkeEventKind.CHILD_REKEY)
    up = None if rekeyed else _text(message, "up") == "yes"
    for name, values in message.items():
        if isinstance(values, Mapping):
            inner = values.get("new", values) if kind is IkeEventKind.IKE_REKEY else values
            yield IkeEvent(kind, name, _text(inner, "uniqueid"), up)
