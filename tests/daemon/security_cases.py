"""A pair of routers seen from either end: SAs as charon lists them."""

from ipaddress import IPv4Address

from dmvpn.daemon.orders import Connect, Disconnect, Order, Remote, Terminate, TerminateNow, Up
from dmvpn.daemon.security import connection_name
from dmvpn.linux.vici_client import ChildSa, IkeSa

LOW = IPv4Address("100.64.0.11")
HIGH = IPv4Address("100.64.0.12")
OTHER = IPv4Address("100.64.0.13")
PUBLIC = Remote("203.0.113.5", 4500)
PRIVATE = Remote("192.168.1.2", 4500)


def child(
    peer: object = HIGH, *, state: str = "INSTALLED", selector: str | None = None, mode: str = "TUNNEL"
) -> ChildSa:
    remote = selector if selector is not None else f"{peer}/32[gre]"
    return ChildSa("gre", "1", state, ("100.64.0.11/32[gre]",), (remote,), 0, 0, 0, 0, 1.0, mode)


def sa(
    unique_id: str,
    *,
    peer: IPv4Address = HIGH,
    initiator: bool = True,
    spi: str = "",
    state: str = "ESTABLISHED",
    answered: bool = True,
    age_s: float = 1.0,
    name: str | None = None,
    remote: Remote = PUBLIC,
    children: tuple[ChildSa, ...] | None = None,
) -> IkeSa:
    return IkeSa(
        name=name if name is not None else connection_name(peer, 0),
        unique_id=unique_id,
        initiator=initiator,
        initiator_spi=spi or unique_id,
        answered=answered,
        state=state,
        local_host="192.168.7.2",
        local_port=4500,
        remote_host=remote.host,
        remote_port=remote.port,
        local_id="a.example.net",
        remote_id="b.example.net",
        established_s=age_s,
        children=(child(peer),) if children is None else children,
    )


def up(peer: IPv4Address = HIGH, remote: Remote = PUBLIC) -> Up:
    return Up(peer, "b.example.net", remote, "192.168.7.2")


def terminated(orders: list[Order]) -> list[str]:
    return [order.unique_id for order in orders if isinstance(order, Terminate | TerminateNow)]


def connected(orders: list[Order]) -> list[tuple[str, Remote]]:
    return [(order.connection, order.remote) for order in orders if isinstance(order, Connect)]


def unloaded(orders: list[Order]) -> list[str]:
    return [order.connection for order in orders if isinstance(order, Disconnect)]
