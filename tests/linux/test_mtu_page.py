"""The page of the MTU has the rows that are measured, with the figures that are computed."""

import os
from pathlib import Path

import mtu_table

from dmvpn.network.mtu import CIPHERS, INTEGRITY_OCTETS, cipher_of

PAGE = Path(__file__).parents[2] / "docs" / "mtu.md"
BEGIN = "<!-- table: tests/linux/mtu_table.py -->\n"


def test_the_table_is_current() -> None:
    before, _, table = PAGE.read_text().partition(BEGIN)
    computed = "".join(f"{line}\n" for line in mtu_table.lines())
    if os.environ.get("DMVPN_ACCEPT"):
        PAGE.write_text(before + BEGIN + computed)
        table = computed
    assert table == computed, "run with DMVPN_ACCEPT=1 and look at the diff"


def test_every_shape_of_cipher_that_the_file_can_name_is_measured() -> None:
    """One of each IV, ICV and block: the others of a shape differ in their keys, which are not on the wire."""
    measured = {cipher_of(esp) for esp in mtu_table.ESPS}
    named = {cipher_of(word) for word, cipher in CIPHERS.items() if cipher.icv}
    named |= {cipher_of(f"aes256-{word}") for word in INTEGRITY_OCTETS}
    assert named <= measured


def test_what_a_packet_becomes_is_the_mtu_the_other_way_round() -> None:
    for way in mtu_table.WAYS:
        for esp in mtu_table.ESPS:
            for underlay in (1280, *range(1400, 1501), 9000):
                mtu = way.mtu_octets(esp, underlay)
                assert way.underlay_octets(esp, mtu) <= underlay
                assert way.underlay_octets(esp, mtu + 1) > underlay or mtu == 1372, (way, esp, underlay)
