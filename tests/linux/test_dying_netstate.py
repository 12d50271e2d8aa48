"""netstate dies at each of its system calls, netlink's among them; going back finds the kernel as it was.

What a change does to the kernel's devices, addresses, routes and rules is this one program's work, so this is the
kernel's half of tests/commit/test_dying.py. The other, nft, has one netlink transaction.
"""

import json
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import dying
from dmvpn.linux import netstate

pytestmark = [pytest.mark.kernel, pytest.mark.skipif(bool(dying.WHY_NOT), reason=dying.WHY_NOT)]

EVERY = 1 if "DMVPN_FAULTS" in os.environ else 5
LAST = 4278198272
Run = Callable[..., str]


def _written(directory: Path, name: str, device: str, net: int, *, both: bool) -> Path:
    """An uplink, a LAN and a tunnel; a second LAN and a rule more in one of the two."""
    tap = {"name": device, "kind": "tap", "mac": "02:00:64:40:00:0b", "mtu": 1372, "neighbour_upcalls": True}
    addresses = [
        {"device": "lo", "address": "100.64.0.11/32"},
        {"device": "eth0", "address": f"198.51.{net}.2/30"},
        {"device": device, "address": "10.255.1.11/32"},
    ]
    route = {"kind": "unicast", "table": 254, "protocol": 79}
    routes: list[dict[str, Any]] = [
        {**route, "prefix": "0.0.0.0/0", "device": "eth0", "gateway": f"198.51.{net}.1", "metric": 100},
        {**route, "prefix": "10.255.1.1/32", "device": device, "scope": "link", "source": "10.255.1.11"},
        {**route, "prefix": "10.0.0.0/8", "kind": "unreachable", "metric": LAST},
    ]
    rules = [{"priority": 210, "table": 4201, "family": 4}]
    if both:
        addresses.append({"device": "eth1", "address": "10.1.112.1/24"})
        rules.append({"priority": 210, "table": 4201, "family": 6})
    document = {
        "version": 1, "network": "acme", "state": str(directory / "network.state.json"), "devices": [tap],
        "addresses": addresses, "routes": routes, "rules": rules, "sysctls": {"net.ipv4.ip_forward": "1"},
    }  # fmt: skip
    path = directory / name
    path.write_text(json.dumps(document))
    return path


def _facts(ip: Run) -> str:
    """What netstate sets; index numbers and a carrier that the kernel takes in its own time are left out."""
    looks = (("-o", "link"), ("-o", "addr"), ("route",), ("-6", "route"), ("rule",), ("-6", "rule"))
    text = "".join(ip(*words) for words in looks)
    text = re.sub(r"NO-CARRIER,|,LOWER_UP| state \w+| linkdown|^\d+: ", "", text, flags=re.MULTILINE)
    return re.sub(r"inet6 fe80:\S+.*\n|fe80::/64.*\n|.*(ff00|anycast|multicast) .*\n|valid_lft.*", "", text)


def test_going_back_from_wherever_it_died_finds_all_as_it_was(netns: None, ip: Run, tmp_path: Path) -> None:
    for name in ("eth0", "eth1"):
        ip("link", "add", name, "type", "veth", "peer", "name", f"{name}-peer")
        ip("link", "set", name, "up")  # that stays, as it may be somebody else's wish
    old = _written(tmp_path, "old.json", "acme-blue", 100, both=False)
    new = _written(tmp_path, "new.json", "acme-green", 101, both=True)
    netstate.apply(old)
    before = _facts(ip)
    calls = dying.traced(partial(netstate.apply, new))
    after = _facts(ip)
    assert after != before
    assert {"sendto", "sendmsg"} & {call.name for call in calls}, "netlink speaks"
    netstate.apply(old)
    assert _facts(ip) == before
    places = calls[:: EVERY if len(calls) > EVERY else 1]
    with dying.counted("netstate killed at each system call, then back: the kernel as it was", len(places)) as count:
        for call in places:
            if not dying.killed_at(partial(netstate.apply, new), call):
                count.missed(call.what)
                continue
            netstate.apply(old)
            count.saw(call.what, "" if _facts(ip) == before else "the kernel is not as it was")
    assert count.unreached == []
