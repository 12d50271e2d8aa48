"""What the file may say and no engine renders: the README names all of it."""

import re
from pathlib import Path

from dmvpn.network.loading import load
from dmvpn.network.model import Network, Underlay
from dmvpn.network.places import places
from dmvpn.network.unrendered import not_rendered

ROOT = Path(__file__).parents[2]
WIKI = (ROOT / "examples/wiki.yaml").read_text()
SYSTEM = "  timezone: UTC\n"

# The last word of what `plan` names, as the README has it.
WORDS = {
    "underlay": "IPv6 underlays",
    "dhcp": " DHCP,",
    "dns": " DNS,",
    "dns-zone": " DNS,",
    "ntp": "time",
    "ssh": "SSH",
    "road-warriors": "road warriors",
    "proxy": "`system.proxy`",
    "syslog": "`system.syslog`",
}


def of_everything() -> Network:
    """The wiki's network, and what its file does not say."""
    more = f"{SYSTEM}  proxy: 'http://proxy.example.net:3128'\n  syslog: logs.example.net\n"
    network = load(WIKI.replace(SYSTEM, more), "wiki.yaml")
    said = {"underlay": Underlay.IPV6, "crypto": "none"}
    clouds = {name: cloud.model_copy(update=said) for name, cloud in network.clouds.items()}
    return network.model_copy(update={"clouds": clouds})


def kinds() -> set[str]:
    """Every key of the file by its kind, without names of the file's own."""
    network, found = of_everything(), set()
    for place in places(network):
        for key in not_rendered(network, place):
            words = key.split(".")
            last = words[-1]
            found.add(f"uplinks.{last}" if "uplinks" in words else last)
    return found


def test_the_readme_names_all_that_is_not_rendered() -> None:
    section = (ROOT / "README.md").read_text().partition("## What it does not do yet\n")[2].partition("\n- Foreign")[0]
    admitted = re.sub(r"\s+", " ", section)
    assert [kind for kind in sorted(kinds()) if WORDS.get(kind, kind) not in admitted] == []


def test_the_table_of_words_has_nothing_that_is_rendered() -> None:
    assert WORDS.keys() - kinds() == set()
