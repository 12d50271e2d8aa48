"""The kernel's names of uplinks and networks on one router."""

from collections.abc import Mapping

from dmvpn.errors import WrongInput
from dmvpn.network.model import SiteNetwork, Uplink
from dmvpn.network.places import Place, own_addresses
from dmvpn.network.plan import Band, Lan, Pppoe, Watch
from dmvpn.network.plan import Uplink as PlannedUplink
from dmvpn.network.registry import uplink_mark, uplink_numbers, uplink_table

ETHERNET_MTU_OCTETS = 1500
PPPOE_MTU_OCTETS = 1492  # RFC 2516 7
PASSWORD_OCTETS = 255  # pppd's MAXSECRETLEN, without the end
METRIC_STEP = 100
GOOD_LOSS_SHARE = 0.5
GOOD_LATENCY_SHARE = 0.8


def uplink_device(name: str, uplink: Uplink) -> str:
    """The port, port.vlan, the session's device, or a foreign router's interface."""
    if uplink.pppoe is not None:
        return f"ppp-{name}"[:15]
    return carrier_device(uplink)


def carrier_device(uplink: Uplink) -> str:
    """The Ethernet device, which a PPPoE session runs over."""
    port = uplink.port or uplink.interface or ""
    return port if uplink.vlan is None else f"{port}.{uplink.vlan}"


def lan_port(place: Place, net: SiteNetwork) -> str | None:
    """The network's own port; else the router's lan-port; else its only bond."""
    bonds = tuple(place.router.ports)
    return net.port or place.router.lan_port or (bonds[0] if len(bonds) == 1 else None)


def lan_device(place: Place, net: SiteNetwork) -> str | None:
    port = lan_port(place, net)
    return port if port is None or net.vlan is None else f"{port}.{net.vlan}"


def uplink_mtu_octets(uplink: Uplink) -> int:
    return uplink.mtu or (PPPOE_MTU_OCTETS if uplink.pppoe else ETHERNET_MTU_OCTETS)


def planned_uplinks(network: str, place: Place, secrets: Mapping[str, bytes]) -> tuple[PlannedUplink, ...]:
    """In the file's order, which is the order of their default routes. Raises WrongInput for a missing password."""
    devices = {name: uplink_device(name, uplink) for name, uplink in place.router.uplinks.items()}
    numbers = uplink_numbers(tuple(devices.values()))
    return tuple(
        PlannedUplink(
            name=name,
            device=devices[name],
            addresses=uplink.address,
            gateways=uplink.gateway,
            dhcp=uplink.dhcp,
            public=uplink.public,
            mtu_octets=uplink_mtu_octets(uplink),
            metric=METRIC_STEP * (index + 1),
            carrier=carrier_device(uplink),
            pppoe=_session(uplink, secrets) if place.ours else None,
            autoconf=uplink.autoconf,
            table=uplink_table(network, numbers[devices[name]]),
            mark=uplink_mark(numbers[devices[name]]),
            watch=_watch(uplink),
            weight=uplink.weight or 0,
            hook=uplink.hook,
        )
        for index, (name, uplink) in enumerate(place.router.uplinks.items())
    )


def _session(uplink: Uplink, secrets: Mapping[str, bytes]) -> Pppoe | None:
    if uplink.pppoe is None:
        return None
    path = uplink.pppoe.password.file
    if path not in secrets:
        raise WrongInput(path, "the ISP's password was not read", "put it there, with mode 0600")
    password = secrets[path].rstrip(b"\r\n")
    if not 1 <= len(password) <= PASSWORD_OCTETS or not all(0x20 <= octet < 0x7F for octet in password):
        what = "the ISP's password is not 1 to 255 characters of ASCII without line breaks"
        raise WrongInput(path, what, "put the password alone there, as the ISP wrote it")
    return Pppoe(uplink.pppoe.user, password)


def _watch(uplink: Uplink) -> Watch:
    times = uplink.probe
    return Watch(
        targets=uplink.probes,
        interval_s=times.interval,
        again_s=times.again,
        timeout_s=times.timeout,
        required=times.required,
        attempts=times.attempts,
        answers=times.answers,
        down=times.down,
        up=times.up,
        window=times.window,
        loss=_band(times.max_loss, times.good_loss, GOOD_LOSS_SHARE),
        latency_s=_band(times.max_latency, times.good_latency, GOOD_LATENCY_SHARE),
    )


def _band(worst: float | None, good: float | None, share: float) -> Band | None:
    return None if worst is None else Band(worst, worst * share if good is None else good)


def planned_lans(place: Place) -> tuple[Lan, ...]:
    """One for each prefix of each network of the site."""
    return tuple(
        Lan(
            name=name,
            device=lan_device(place, net) or "",
            prefix=address.network,
            address=address,
            zone=net.zone,
            dhcp=net.dhcp is not None,
        )
        for name, net in place.site.networks.items()
        for address in own_addresses(place, name, net)
    )


def port_ranges(text: str) -> tuple[int, int]:
    """First and last of `8000-8010`, or of one port."""
    first, _, last = text.partition("-")
    return int(first), int(last or first)
