"""Zones with `ipsec`, and packets that the kernel's own ESP protects, or not: in a kernel that has it."""

import json
import os
import sys
from collections.abc import Iterator

import pytest
from firewall_policies import LAN, policy, rule
from kernel_verdicts import run

from dmvpn.firewall import nft
from dmvpn.firewall.assembly import assemble
from dmvpn.firewall.policy import PortRange, Service, Traffic, Zone

pytestmark = pytest.mark.vm

NEAR, FAR, PORT = "192.0.2.2", "192.0.2.7", 7007
SAFE, CLEAR = Zone("safe", ("eth0",), ipsec=True), Zone("clear", ("eth0",), ipsec=False)
TALK, ESP = Service("talk", (Traffic(17, (PortRange(PORT, PORT),)),)), Service("esp-alone", (Traffic(50),))
# What is protected may come and go; of the rest ESP itself, which carries it.
POLICY = policy(
    rule(("safe",), ("_fw",), services=("talk",)),
    rule(("_fw",), ("safe",), services=("talk",)),
    rule(("clear",), ("_fw",), services=("esp-alone",)),
    rule(("_fw",), ("clear",), services=("esp-alone",)),
    zones=(SAFE, CLEAR, LAN),
    services=(TALK, ESP),
)
PASSED = f"""
table inet probe {{
  counter came {{ }}
  counter went {{ }}
  chain input {{ type filter hook input priority 300; udp dport {PORT} counter name came; }}
  chain output {{ type filter hook output priority 300; udp dport {PORT} counter name went; }}
}}
"""
SAY = (
    "import socket, sys; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', (sys.argv[1], int(sys.argv[2])))"
)
SPIS = {(NEAR, FAR): "0x1001", (FAR, NEAR): "0x1002"}


class Ends:
    """The router with the policy, and who talks with it."""

    def __init__(self) -> None:
        self.names = {NEAR: f"near{os.getpid()}", FAR: f"far{os.getpid()}"}

    def ip(self, end: str, *words: str) -> None:
        run("ip", "-n", self.names[end], *words)

    def exec(self, end: str, *argv: str, text: str | None = None) -> str:
        return run("ip", "netns", "exec", self.names[end], *argv, text=text)

    def protect(self, end: str, peer: str) -> None:
        """What this end sends the other goes by ESP from now on."""
        ways = ("src", f"{end}/32", "dst", f"{peer}/32", "proto", "udp")
        self.ip(end, "xfrm", "policy", "add", *ways, "dir", "out", "tmpl", "proto", "esp", "mode", "transport")

    def say(self, end: str, peer: str) -> None:
        """A packet that the rules stop is an error to the sender, too."""
        self.exec(end, "sh", "-c", '"$@" || true', "sh", sys.executable, "-c", SAY, peer, str(PORT))

    def passed(self, name: str) -> int:
        listed = json.loads(self.exec(NEAR, "nft", "-j", "list", "counters", "table", "inet", "probe"))["nftables"]
        return sum(one["counter"]["packets"] for one in listed if one.get("counter", {}).get("name") == name)


@pytest.fixture
def ends() -> Iterator[Ends]:
    found = Ends()
    for name in found.names.values():
        run("ip", "netns", "add", name)
    try:
        near, far = found.names.values()
        run("ip", "link", "add", "eth0", "netns", near, "type", "veth", "peer", "name", "eth0", "netns", far)
        for own in (NEAR, FAR):
            found.ip(own, "address", "add", f"{own}/24", "dev", "eth0")
            found.ip(own, "link", "set", "eth0", "up")
            for (source, target), spi in SPIS.items():
                ways = ("src", source, "dst", target, "proto", "esp", "spi", spi, "mode", "transport")
                found.ip(own, "xfrm", "state", "add", *ways, "aead", "rfc4106(gcm(aes))", f"0x{'17' * 20}", "128")
        rules = "\n".join(nft.lines(assemble(POLICY)))
        found.exec(NEAR, "nft", "-f", "-", text=f"table inet tried {{\n{rules}\n}}\n{PASSED}")
        yield found
    finally:
        for name in found.names.values():
            run("ip", "netns", "del", name)


def test_what_comes_by_esp_is_let_in_and_the_same_in_clear_is_not(ends: Ends) -> None:
    ends.say(FAR, NEAR)
    assert ends.passed("came") == 0
    ends.protect(FAR, NEAR)
    ends.say(FAR, NEAR)
    assert ends.passed("came") == 1


def test_what_will_go_by_esp_is_let_out_and_the_same_in_clear_is_not(ends: Ends) -> None:
    ends.say(NEAR, FAR)
    assert ends.passed("went") == 0
    ends.protect(NEAR, FAR)
    ends.say(NEAR, FAR)
    assert ends.passed("went") == 1
