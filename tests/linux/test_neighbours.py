import select
import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from dmvpn.errors import Fault
from dmvpn.linux.neighbours import Change, LinkForm, Neighbour, Neighbours, link_address, mac_of, nbma_of, nbma_of_link
from dmvpn.linux.netlink import attribute, attributes, messages
from dmvpn.linux.upcalls import NeighbourQuestions, Question

Run = Callable[..., str]


OURS = 79
PEER = IPv4Address("10.255.1.1")
NBMA = IPv4Address("100.64.0.1")
LONG = IPv6Address("2001:db8::1")
IP_RECVERR = 11


@pytest.mark.parametrize(
    ("mac", "nbma"),
    [
        pytest.param("02:00:64:40:00:0b", IPv4Address("100.64.0.11"), id="spelt"),
        pytest.param("02:01:64:40:00:0b", None, id="another prefix"),
        pytest.param("ff:ff:ff:ff:ff:ff", None, id="broadcast"),
        pytest.param("02:00:64:40", None, id="cut short"),
        pytest.param("hello", None, id="no hex"),
    ],
)
def test_a_mac_spells_an_nbma_address(mac: str, nbma: IPv4Address | None) -> None:
    assert nbma_of(mac) == nbma
    assert nbma is None or mac_of(nbma) == mac


@pytest.mark.parametrize(
    ("octets", "nbma"),
    [
        pytest.param("020064400001", "100.64.0.1", id="tap"),
        pytest.param("64400001", "100.64.0.1", id="gre"),
        pytest.param("20010db8000000000000000000000001", "2001:db8::1", id="gre over IPv6"),
        pytest.param("00000000", None, id="gre does not say"),
        pytest.param("aabbccddeeff", None, id="another MAC"),
        pytest.param("", None, id="nothing"),
    ],
)
def test_a_link_layer_address_of_either_form(octets: str, nbma: str | None) -> None:
    assert nbma_of_link(bytes.fromhex(octets)) == (ip_address(nbma) if nbma else None)


def test_an_ipv6_nbma_does_not_fit_a_mac() -> None:
    with pytest.raises(Fault, match="does not fit a MAC"):
        link_address(IPv6Address("2001:db8::1"), LinkForm.TAP)
    assert link_address(IPv6Address("2001:db8::1"), LinkForm.GRE) == IPv6Address("2001:db8::1").packed


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param("", id="empty"),
        pytest.param("0300 0100", id="length below the header's"),
        pytest.param("0900 0100 00", id="length beyond the end"),
    ],
)
def test_malformed_attributes_end_the_walk(octets: str) -> None:
    assert attributes(bytes.fromhex(octets)) == {}


def test_attributes_and_messages_are_found_until_cut_short() -> None:
    assert attributes(attribute(1, b"abc") + attribute(2, b"d") + b"\x08\0\0") == {1: b"abc", 2: b"d"}
    assert list(messages(b"\x20\0\0\0" + bytes(20))) == []


@pytest.mark.kernel
def test_a_bound_neighbour_is_permanent_and_found_again(tap: str, ip: Run) -> None:
    with Neighbours(OURS) as neighbours:
        neighbours.bind(tap, PEER, NBMA, LinkForm.TAP)
        neighbours.bind(tap, PEER, IPv4Address("100.64.0.2"), LinkForm.TAP)
        neighbours.bind(tap, IPv6Address("fd00:255:1::1"), NBMA, LinkForm.TAP)
        ip("neigh", "add", "10.255.1.9", "lladdr", "02:00:64:40:00:09", "dev", tap, "nud", "permanent", "protocol", "4")
        assert "02:00:64:40:00:02 PERMANENT" in ip("neigh", "show", "dev", tap, str(PEER))
        assert set(neighbours.ours(tap)) >= {
            Neighbour(tap, PEER, IPv4Address("100.64.0.2")),
            Neighbour(tap, IPv6Address("fd00:255:1::1"), NBMA),
        }
        assert IPv4Address("10.255.1.9") not in {row.protocol for row in neighbours.ours(tap)}
        neighbours.unbind(tap, PEER)
        neighbours.unbind(tap, PEER)
        assert PEER not in {row.protocol for row in neighbours.ours(tap)}


@pytest.mark.kernel
def test_many_changes_are_made_in_their_order(tap: str) -> None:
    other, gone, kept = (IPv4Address(f"10.255.1.{host}") for host in (2, 3, 4))
    with Neighbours(OURS) as neighbours:
        changes = (
            Change(PEER, NBMA),
            Change(PEER, IPv4Address("100.64.0.2")),
            Change(gone, NBMA),
            Change(gone),
            Change(gone),
            Change(kept, NBMA),
            Change(kept),
            Change(kept, IPv4Address("100.64.0.4")),
        )
        assert neighbours.change_all(tap, LinkForm.TAP, changes) == {}
        assert neighbours.change_all(tap, LinkForm.TAP, ()) == {}
        assert {row.protocol: row.nbma for row in neighbours.ours(tap)} == {
            PEER: IPv4Address("100.64.0.2"),
            kept: IPv4Address("100.64.0.4"),
        }
        assert neighbours.change_all(tap, LinkForm.TAP, (Change(other, NBMA), Change(other, refused=True))) == {}
        assert other not in {row.protocol for row in neighbours.ours(tap)}


@pytest.mark.kernel
@pytest.mark.parametrize("wrong", [[0], [1], [2], [0, 1, 2], []])
def test_what_the_kernel_refuses_is_told_by_its_place_and_the_others_are_made(tap: str, wrong: list[int]) -> None:
    """The four octets of an mGRE device's link-layer address are too few for a TAP's six; sixteen are not."""
    hosts = [IPv4Address(f"10.255.1.{host}") for host in (2, 3, 4)]
    with Neighbours(OURS) as neighbours:
        changes = [Change(host, NBMA if place in wrong else LONG) for place, host in enumerate(hosts)]
        refused = neighbours.change_all(tap, LinkForm.GRE, changes)
        assert {place: str(fault) for place, fault in refused.items()} == {
            place: f"neighbour {hosts[place]} on {tap}: Invalid link address" for place in wrong
        }
        assert {row.protocol for row in neighbours.ours(tap)} == {
            host for place, host in enumerate(hosts) if place not in wrong
        }


@pytest.mark.kernel
def test_an_address_that_does_not_fit_holds_nothing_else_up(tap: str) -> None:
    with Neighbours(OURS) as neighbours:
        changes = (Change(PEER, LONG), Change(IPv4Address("10.255.1.2"), NBMA))
        (fault,) = neighbours.change_all(tap, LinkForm.TAP, changes).items()
        assert (fault[0], str(fault[1])) == (
            0,
            f"{LONG}: an IPv6 NBMA address does not fit a MAC of the userspace plane",
        )
        assert {row.protocol for row in neighbours.ours(tap)} == {IPv4Address("10.255.1.2")}


@pytest.mark.kernel
def test_hundreds_of_changes_are_one_request(tap: str) -> None:
    hosts = [IPv4Address(int(PEER) + 1 + number) for number in range(240)]
    with Neighbours(OURS) as neighbours:
        assert neighbours.change_all(tap, LinkForm.TAP, [Change(host, NBMA) for host in hosts]) == {}
        assert {row.protocol for row in neighbours.ours(tap)} == set(hosts)
        neighbours.bind(tap, PEER, NBMA, LinkForm.TAP)
        assert PEER in {row.protocol for row in neighbours.ours(tap)}, "its answers are not taken for another's"


@pytest.mark.kernel
def test_a_missing_device_fails_every_change(netns: None) -> None:
    with Neighbours(OURS) as neighbours:
        failed = neighbours.change_all("acme-blue", LinkForm.TAP, (Change(PEER, NBMA), Change(PEER)))
    assert [str(fault) for fault in failed.values()] == ["acme-blue: there is no such network device here"] * 2


@pytest.mark.kernel
def test_a_missing_device_is_named(netns: None) -> None:
    with Neighbours(OURS) as neighbours, pytest.raises(Fault, match=r"^acme-blue: there is no such network device"):
        neighbours.bind("acme-blue", PEER, NBMA, LinkForm.TAP)


@pytest.mark.kernel
def test_an_unknown_next_hop_is_asked_for_and_answered(tap: str, ip: Run) -> None:
    questions = NeighbourQuestions()
    with Neighbours(OURS) as neighbours, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        assert questions.read() == ()
        neighbours.bind(tap, IPv4Address("10.255.1.7"), NBMA, LinkForm.TAP)
        assert questions.read() == (), "what is announced is not a question"
        sender.sendto(b"x", (str(PEER), 9))
        assert select.select([questions], [], [], 5)[0]
        assert questions.read() == (Question(tap, PEER),)
        neighbours.bind(tap, PEER, NBMA, LinkForm.TAP)
        assert "PERMANENT" in ip("neigh", "show", "dev", tap, str(PEER))
    questions.close()


@pytest.mark.kernel
def test_a_refused_next_hop_is_unreachable_at_once(tap: str) -> None:
    questions = NeighbourQuestions()
    with Neighbours(OURS) as neighbours, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.settimeout(5)
        sender.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        sender.connect((str(PEER), 9))
        sender.send(b"x")
        select.select([questions], [], [], 5)
        neighbours.refuse(tap, PEER)
        with pytest.raises(OSError, match="No route to host"):
            sender.recv(10)
    questions.close()


@pytest.mark.kernel
def test_lost_questions_are_counted(tap: str) -> None:
    questions = NeighbourQuestions()
    questions._events.socket.setsockopt(socket.SOL_SOCKET, 33, 1)  # SO_RCVBUFFORCE: the least there is
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for host in range(20, 220):
            sender.sendto(b"x", (f"10.255.1.{host}", 9))
    found = questions.read()
    assert questions.overflows == 1
    assert 0 < len(found) < 200
    questions.close()
