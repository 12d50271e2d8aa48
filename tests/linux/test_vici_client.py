import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dmvpn.errors import Fault
from dmvpn.linux.certificate_names import CertificateNames, names_of
from dmvpn.linux.vici_client import IkeEvent, IkeEventKind, IkeSa, ViciSession, watch_events

sys.path.insert(0, str(Path(__file__).parent))
from ipsec_pair import Router, pair, wait_for

Run = Callable[..., str]


@pytest.fixture
def routers(netns: None, tmp_path: Path) -> Iterator[tuple[Router, Router]]:
    if not Path("/usr/lib/ipsec/charon").exists() or shutil.which("openssl") is None:
        pytest.skip("no charon (package strongswan-charon) or no openssl")
    with pair(tmp_path) as found:
        yield found


def standing(session: ViciSession) -> tuple[IkeSa, ...]:
    return tuple(
        sa
        for sa in session.list_sas()
        if sa.state == "ESTABLISHED" and any(child.state == "INSTALLED" for child in sa.children)
    )


@pytest.mark.kernel
def test_two_routers_make_and_end_an_sa(routers: tuple[Router, Router], ip: Run) -> None:
    hub, spoke = routers
    events: list[IkeEvent] = []
    trouble: list[Fault] = []

    def watch() -> None:
        try:
            watch_events(hub.vici, events.append)
        except Fault as fault:
            trouble.append(fault)

    with ViciSession(hub.vici) as at_hub, ViciSession(spoke.vici) as at_spoke:
        assert at_hub.version().startswith(("5.", "6."))
        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        for router, session in ((hub, at_hub), (spoke, at_spoke)):
            session.load_all(router.swanctl_conf, router.swanctl_dir)
            assert session.connections() == ("own",)
            assert session.list_sas() == ()
        at_spoke.load_conn(spoke.connection_to(hub))
        assert set(at_spoke.connections()) == {"own", "p-hub"}
        at_spoke.initiate("p-hub")
        wait_for(lambda: bool(standing(at_spoke) and standing(at_hub)), "the SA")

        (sa,) = standing(at_spoke)
        assert (sa.name, sa.initiator, sa.remote_id) == ("p-hub", True, "hub.example.net")
        assert (sa.local_host, sa.local_port, sa.remote_host, sa.remote_port) == ("192.0.2.2", 4500, "192.0.2.1", 4500)
        (child,) = sa.children
        assert (child.local_ts, child.remote_ts) == (("100.64.0.11/32[gre]",), ("100.64.0.1/32[gre]",))
        (sa,) = standing(at_hub)
        assert (sa.name, sa.initiator, sa.remote_id) == ("own", False, "O=acme, CN=spoke")
        assert [one.unique_id for one in at_hub.list_sas(sa.unique_id)] == [sa.unique_id]
        assert at_hub.list_sas("4711") == ()
        assert "100.64.0.11 dev ipsec0" in ip("route", "show", "table", "220")

        certificates = {certificate.identities for certificate in at_hub.peer_certificates()}
        assert ("O=acme, CN=spoke", "spoke.example.net", "192.0.2.1") in certificates
        assert all(certificate.not_before > 1.6e9 for certificate in at_hub.peer_certificates())

        at_spoke.unload_conn("p-hub")
        at_spoke.unload_conn("p-hub")
        assert standing(at_spoke), "unloading a connection keeps its SA"
        at_hub.terminate(sa.unique_id)
        wait_for(lambda: not at_spoke.list_sas() and not at_hub.list_sas(), "the end of the SA")
        kinds = [(event.kind, event.up) for event in events]
        assert (IkeEventKind.CHILD_UPDOWN, True) in kinds
        assert (IkeEventKind.IKE_UPDOWN, True) in kinds
        wait_for(lambda: IkeEvent(IkeEventKind.IKE_UPDOWN, "own", sa.unique_id, up=False) in events, "the down event")


@pytest.mark.kernel
def test_an_sa_ends_at_once_though_its_peer_says_nothing_any_more(routers: tuple[Router, Router]) -> None:
    hub, spoke = routers
    with ViciSession(hub.vici) as at_hub, ViciSession(spoke.vici) as at_spoke:
        for router, session in ((hub, at_hub), (spoke, at_spoke)):
            session.load_all(router.swanctl_conf, router.swanctl_dir)
        at_spoke.load_conn(spoke.connection_to(hub))
        # A busy machine may come too late: charon gives the wait for an answer up after some seconds.
        assert any(_ended_at_once(at_hub, at_spoke) for _ in range(5))


def _ended_at_once(at_hub: ViciSession, at_spoke: ViciSession) -> bool:
    at_spoke.initiate("p-hub")
    wait_for(lambda: bool(standing(at_hub)), "the SA")
    pid = at_spoke.peer_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        (sa,) = at_hub.list_sas()
        at_hub.terminate(sa.unique_id)
        wait_for(lambda: {one.state for one in at_hub.list_sas()} <= {"DELETING"}, "the wait for an answer")
        at_hub.terminate_now(sa.unique_id)
        wait_for(lambda: at_hub.list_sas() == (), "the end of the SA")
    except Fault:
        return False
    finally:
        os.kill(pid, signal.SIGCONT)
    return True


@pytest.mark.kernel
def test_initiating_returns_at_once_and_faults_are_charons_words(routers: tuple[Router, Router]) -> None:
    _hub, spoke = routers
    with ViciSession(spoke.vici) as session:
        session.load_all(spoke.swanctl_conf, spoke.swanctl_dir)
        nobody = Router("nobody", "192.0.2.77", "100.64.0.77", spoke.directory)
        session.load_conn(spoke.connection_to(nobody))
        session.initiate("p-nobody")
        (sa,) = session.list_sas()
        assert (sa.state, sa.initiator, sa.children) == ("CONNECTING", True, ())
        session.terminate(sa.unique_id)
        wait_for(lambda: session.list_sas() == (), "the attempt to end")
        with pytest.raises(Fault, match=r"^charon: initiate p-stranger: CHILD_SA config 'gre' not found"):
            session.initiate("p-stranger")
        with pytest.raises(Fault, match=r"^charon: terminate SA 99: no matching SAs to terminate found"):
            session.terminate("99")
        broken = spoke.directory / "broken.conf"
        broken.write_text("connections {\n  own {\n    colour = red\n  }\n}\n")
        with pytest.raises(Fault, match="unknown option: colour"):
            session.load_all(broken, spoke.swanctl_dir)


@pytest.mark.kernel
def test_the_end_of_charon_is_a_fault(netns: None, tmp_path: Path) -> None:
    with pytest.raises(Fault, match=r"no answer from charon: no such file or directory; is charon running\?"):
        ViciSession(tmp_path / "charon.vici")
    with pytest.raises(Fault, match="no answer from charon"):
        watch_events(tmp_path / "charon.vici", lambda _: None)


@pytest.mark.parametrize("octets", ["", "30", "3080", "30840fffffff", "3003020101", "3003300102"])
def test_octets_that_are_no_certificate_have_no_names(octets: str) -> None:
    assert names_of(bytes.fromhex(octets)) == CertificateNames("", (), 0.0)
