"""FRR 10 laid over a node's own FRR: the usual paths start it, it takes what we render, and nobody else sees it."""

import os
from functools import partial
from pathlib import Path

import pytest

from dmvpn.lab import foreign as foreign_node
from dmvpn.lab import frr10, lifecycle
from dmvpn.lab.node import LabNode
from dmvpn.linux import frr_release, process
from dmvpn.network.foreign import compile_foreign
from dmvpn.network.loading import load
from dmvpn.network.plan import ForeignPlan
from dmvpn.operations import foreign
from dmvpn.render.vendors import frr_nhrpd

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.lab,
    pytest.mark.skipif(bool(frr10.why_not()), reason=frr10.why_not()),
]
FILE = Path(__file__).parents[1] / "interop" / "networks" / "small-hub.yaml"
ZEBRA = ("/usr/lib/frr/zebra", "--version")
NEEDS_GRE = ("network", "nft")  # the device is another one here
UNSHOWN = {"exit", "neighbor 10.255.1.1 activate"}  # what goes without saying is not in a running configuration


def test_frr_10_takes_every_line_of_a_foreign_router_in_its_node_alone(tmp_path: Path) -> None:
    """Without GRE in the kernel nobody answers it; what it read is what counts."""
    text = FILE.read_text().replace("gre-key: 1,", "gre-key: 1, crypto: none,")
    network = load(text.replace("holding-time: 60", "holding-time: 60, secret: {file: secret}"), FILE.name)
    plan = compile_foreign(network, "frr1", secrets={"secret": b"cisco123"})
    before = process.run(ZEBRA, timeout_s=20).text
    held = partial(lifecycle.held, name=f"frr10-{os.getpid()}", file=FILE.name, base=tmp_path)
    with held(network.lab, (plan,), configure=partial(start, plan)) as lab:
        node = lab.node("frr1")
        assert node.call(frr_release.release) >= (10, 1)
        shown = {line.strip() for line in node.run(("vtysh", "-c", "show running-config")).text.splitlines()}
        assert process.run(ZEBRA, timeout_s=20).text == before
        bfdd = ["/usr/lib/frr/bfdd", "--bfdctl", "/run/bfdd.sock", "-P", "0"]
        assert node.call(partial(frr_release.without_gone, bfdd)) == ["/usr/lib/frr/bfdd", "-P", "0"]
        assert node.call(partial(frr_release.lacking, "ospf6")) == ""
        for word in ("rip", "ripng"):
            assert f"its {word}d reads no file any more" in node.call(partial(frr_release.lacking, word))
    texts = [file.text for file in frr_nhrpd.render(plan).files if str(file.path).endswith(".conf")]
    given = {line.strip() for text in texts for line in text.splitlines() if not line.startswith("!")}
    assert given - UNSHOWN - shown == set()
    assert {"ip nhrp authentication cisco123", "ip route 10.255.1.0/24 10.255.1.1 250"} <= shown


def start(plan: ForeignPlan, _node: LabNode) -> None:
    """Inside the node."""
    process.run(("ip", "link", "add", plan.clouds[0].device, "type", "veth", "peer", "name", "nobody"), timeout_s=20)
    frr10.lay()
    rendered = frr_nhrpd.render(plan, frr_release.release())
    programs = tuple(foreign.program(unit) for unit in rendered.units if unit.name not in NEEDS_GRE)
    texts = {str(file.path): file.text for file in rendered.files}
    foreign_node.set_up(plan, Path(frr_nhrpd.ETC), texts, {}, programs)
