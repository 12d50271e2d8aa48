"""charon over vici: connections in, SAs, certificates and events out. strongSwan, src/libcharon/plugins/vici/README.md.

One ViciSession serves one thread at a time; events come over a connection of their own.
"""

import socket
import struct
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
    local_address: str | None = None  # None: charon takes the one that the route to the peer gives


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
    """Something happened to the SA of a connection. `up` is None for a rekeying; that of an IKE_SA is told of both."""

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
        self._certificates: dict[bytes, PeerCertificate] = {}  # those of the last list: each is read once

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

    def load_all(self, swanctl_conf: Path, swanctl_dir: Path) -> None:
        """Keys, certificates and connections of a file; connections that are not in it are unloaded, SAs stay.

        Raises Fault with what swanctl said.
        """
        places = (str(swanctl_conf), str(swanctl_dir), str(self._path))
        process.run(("python3", "-m", "dmvpn.linux.swanctl_load", *places), timeout_s=_LOAD_LIMIT_S)

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

    def terminate_now(self, unique_id: str) -> None:
        """The same without waiting for the peer's answer: it is told once, and nothing more is taken from it."""
        with _faults(f"terminate SA {unique_id}"):
            self._session.request("terminate", {"ike-id": unique_id, "timeout": _AT_ONCE, "force": "yes"})

    def load_key(self, pem: bytes) -> None:
        """A private key beside those that are loaded. Raises Fault."""
        with _faults("load-key"):
            self._session.load_key({"type": "any", "data": pem})

    def load_revocation_list(self, der: bytes) -> None:
        """A revocation list in place of an older one of its issuer, also where charon remembers that. Raises Fault."""
        with _faults("load-cert"):
            self._session.load_cert({"type": "X509_CRL", "flag": "NONE", "data": der})
            self._session.flush_certs({"type": "X509_CRL"})

    def list_sas(self, unique_id: str | None = None) -> tuple[IkeSa, ...]:
        """All IKE_SAs, or the one of this id; those being set up and ended included."""
        with _faults("list-sas"):
            return tuple(
                _ike_sa(name, values)
                for message in self._session.list_sas(None if unique_id is None else {"ike-id": unique_id})
                for name, values in message.items()
                if isinstance(values, Mapping)
            )

    def connections(self) -> tuple[str, ...]:
        with _faults("get-conns"):
            return tuple(name.decode() for name in self._session.get_conns().get("conns", ()))

    def authority_certificates(self) -> tuple[bytes, ...]:
        """Certificates of authorities, DER: loaded ones, and those that peers sent along."""
        with _faults("list-certs"):
            return tuple(one["data"] for one in self._session.list_certs({"type": "X509", "flag": "CA"}))

    def peer_certificates(self) -> tuple[PeerCertificate, ...]:
        """End entities' certificates, those that peers sent and charon verified included. Not sorted."""
        found = {}
        with _faults("list-certs"):
            for message in self._session.list_certs({"type": "X509", "flag": "NONE"}):
                der = message.get("data", b"")
                found[der] = self._certificates.get(der) or _peer_certificate(der)
        self._certificates = found
        return tuple(found.values())


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
    source = {} if connection.local_address is None else {"local_addrs": [connection.local_address]}
    return {
        "version": "2",
        **source,
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


def _peer_certificate(der: bytes) -> PeerCertificate:
    names = certificate_names.names_of(der)
    identities = tuple(name for name in (names.subject, *names.alternatives) if name)
    return PeerCertificate(der, identities, names.not_before)


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
            both = [values[one] for one in ("old", "new") if one in values] if kind is IkeEventKind.IKE_REKEY else []
            for sa in both or [values]:
                yield IkeEvent(kind, name, _text(sa, "uniqueid"), up)
