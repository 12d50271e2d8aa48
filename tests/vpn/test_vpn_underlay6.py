"""ISPs with IPv6 alone, on both planes: hub, direct path, and full packets, with IPv4 inside."""

from collections.abc import Iterator
from functools import partial

import pytest
from vpn_lab import NETWORKS, PLANE_AT, Figure, Vpn, on_this_kernel, settled_lab, until_nothing

pytestmark = [pytest.mark.lab, pytest.mark.both_planes(vm_is_wide=True)]
MTU = {"userspace": 1372, "kernel": 1390}  # of 1500: charon's device, and IPv6, UDP, ESP by AES-GCM, GRE with its key


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vpn]:
    file = tmp_path_factory.mktemp("six") / "six.yaml"
    file.write_text(on_this_kernel(NETWORKS["six"].read_text()))
    with settled_lab(file, "six") as vpn:
        yield vpn


def test_spokes_meet_directly_over_ipv6(six: Vpn, figure: Figure, place: str) -> None:
    (cloud,) = six.status("par1").clouds
    assert (cloud.plane, cloud.mtu_octets) == (PLANE_AT[place], MTU[PLANE_AT[place]])
    with six.flow("paris-pc", "lyon-pc") as flow:
        figure("over IPv6: direct after", flow.until("direct", within_s=20))
    far = six.peer("par1", "lyo1")
    assert far is not None
    assert far.endpoint.startswith("[2001:db8:13::2]:")


def test_a_full_packet_passes_and_one_octet_more_does_not(six: Vpn, place: str) -> None:
    full = MTU[PLANE_AT[place]]
    ping = ("ping", "-n", "-c", "3", "-i", "0.2", "-W", "3", "-M", "do", "10.1.13.10", "-s")
    assert " 0% packet loss" in six.run("paris-pc", *ping, str(full - 28)).text
    refused = six.run("paris-pc", *ping, str(full - 27))
    assert " 100% packet loss" in refused.text
    assert f"mtu = {full}" in refused.text or f"mtu={full}" in refused.text


def test_a_doctor_finds_all_good(six: Vpn) -> None:
    until_nothing("par1 to be well", partial(six.ill, "par1"), within_s=20)
