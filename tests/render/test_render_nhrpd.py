"""The files of a foreign router that runs nhrpd, as FRR's own parser, nft and strongSwan's reader take them."""

from pathlib import Path

import pytest

from dmvpn.errors import Fault, WrongInput
from dmvpn.linux import process
from dmvpn.network.foreign import compile_foreign, nhrpd_routers
from dmvpn.network.loading import load
from dmvpn.network.plan import ForeignPlan
from dmvpn.operations import foreign
from dmvpn.render.vendors import frr_nhrpd

NETWORKS = Path(__file__).parents[1] / "interop" / "networks"


def plan(name: str, router: str, change: tuple[str, str] = ("", "")) -> ForeignPlan:
    text = (NETWORKS / f"{name}.yaml").read_text().replace(*change)
    network = load(text, f"{name}.yaml")
    assert router in nhrpd_routers(network)
    return compile_foreign(network, router, secrets={"secret": b"cisco123"})


def texts(of: ForeignPlan) -> dict[str, str]:
    return {str(file.path): file.text for file in frr_nhrpd.render(of).files}


def rejected(tmp_path: Path, of: ForeignPlan) -> dict[str, str]:
    """What FRR's parser says against each daemon's file; empty where it takes it."""
    said = {}
    for name, text in texts(of).items():
        (tmp_path / name).write_text(text)
    for check in frr_nhrpd.render(of).checks:
        argv = tuple(argument.replace("{tree}", str(tmp_path)) for argument in check.argv)
        result = process.run(argv, timeout_s=20, package="frr", accept=range(256))
        if result.status:
            said[argv[-1].rsplit("/", 1)[-1]] = (result.text + result.stderr.decode()).strip()
    return said


ROUTERS = [pytest.param("our-hub", "frr1", id="spoke"), pytest.param("their-hub", "frh", id="hub")]


@pytest.mark.parametrize(("name", "router"), ROUTERS)
def test_frrs_own_parser_takes_every_file(tmp_path: Path, name: str, router: str) -> None:
    assert rejected(tmp_path, plan(name, router)) == {}


@pytest.mark.parametrize(("name", "router"), ROUTERS)
def test_nft_takes_its_rules(tmp_path: Path, name: str, router: str) -> None:
    file = tmp_path / "rules"
    file.write_text(texts(plan(name, router))["nhrp.nft"])
    process.run(("unshare", "--net", "nft", "--check", "--file", str(file)), timeout_s=20)


def test_a_spoke_dials_its_hub_by_the_underlay_address() -> None:
    nhrpd = texts(plan("our-hub", "frr1"))["nhrpd.conf"]
    assert " ip nhrp nhs 10.255.1.1 nbma 192.0.2.2\n" in nhrpd
    assert "100.64." not in "".join(texts(plan("our-hub", "frr1")).values())


def test_only_a_hub_indicates_and_copies_to_its_clients() -> None:
    hub, spoke = texts(plan("their-hub", "frh")), texts(plan("their-hub", "frr1"))
    for text, where in ((" ip nhrp redirect\n", "nhrpd.conf"), (" ip nhrp map multicast dynamic\n", "nhrpd.conf")):
        assert text in hub[where]
        assert text not in spoke[where]
    assert "log group 1 snaplen 128" in hub["nhrp.nft"]
    assert "log group 1 snaplen 128" not in spoke["nhrp.nft"]


def test_a_cloud_in_clear_has_no_charon() -> None:
    clear = plan("their-hub", "frh", ("gre-key: 1,", "gre-key: 1, crypto: none,"))
    assert "swanctl.conf" not in texts(clear)
    assert "charon" not in {unit.name for unit in frr_nhrpd.render(clear).units}
    assert "charon" in {unit.name for unit in frr_nhrpd.render(plan("their-hub", "frh")).units}


def test_cisco_authentication_needs_a_newer_frr_than_8_4(tmp_path: Path) -> None:
    """FRR has it from 10.1 on: an older one refuses the line, which must not go unseen."""
    secret = plan("their-hub", "frr1", ("holding-time: 60", "holding-time: 60, secret: {file: secret}"))
    assert " ip nhrp authentication cisco123\n" in texts(secret)["nhrpd.conf"]
    version = process.run(("/usr/lib/frr/nhrpd", "--version"), timeout_s=10, package="frr").text.split()[2]
    taken = tuple(int(part) for part in version.split(".")[:2]) >= (10, 1)
    assert ("nhrpd.conf" not in rejected(tmp_path, secret)) is taken


def test_a_password_is_refused_before_an_nhrpd_that_knows_none_is_started() -> None:
    secret = plan("their-hub", "frr1", ("holding-time: 60", "holding-time: 60, secret: {file: secret}"))
    with pytest.raises(WrongInput) as caught:
        foreign.refuse_too_old(secret, (8, 4))
    assert str(caught.value) == (
        "clouds.blue: has a secret, and the nhrpd of FRR 8.4 has no authentication; "
        "write lab: {frr10: [frr1]}, or no secret"
    )
    foreign.refuse_too_old(secret, (10, 1))


def test_from_frr_10_on_mgmtd_has_the_static_routes() -> None:
    """staticd of FRR 10 refuses to start with a file of its own."""
    units = {unit.name: unit for unit in frr_nhrpd.render(plan("our-hub", "frr1"), (10, 3)).units}
    assert list(units)[-6:] == ["mgmtd", "zebra", "staticd", "nhrpd", "bgpd", "static-routes"]
    assert "-f" not in units["staticd"].argv
    assert units["static-routes"].argv == ("vtysh", "-d", "mgmtd", "-f", "/etc/dmvpn-foreign/staticd.conf")
    older = {unit.name: unit for unit in frr_nhrpd.render(plan("our-hub", "frr1"), (8, 4)).units}
    assert "mgmtd" not in older
    assert "/etc/dmvpn-foreign/staticd.conf" in older["staticd"].argv


def test_a_foreign_router_needs_a_fixed_address() -> None:
    fixed = "address: [198.51.100.6/30], gateway: [198.51.100.5]"
    with pytest.raises(Fault, match="a foreign router needs a fixed underlay address"):
        frr_nhrpd.render(plan("our-hub", "frr1", (fixed, "dhcp: true")))
