"""Which kinds of NAT let two spokes be direct. The routers are those of networks/nat.yaml."""

KINDS = {
    "none": ("none1", "none2"),
    "1:1": ("static1", "static2"),
    "port-restricted": ("kept1", "kept2"),
    "other port": ("moved1", "moved2"),
    "symmetric": ("sym1", "sym2"),
    "shared address": ("twin1", "twin2"),
}
# Those of networks/nat-kernel.yaml: every pair there is one of the pairs above.
KERNEL_ROUTERS = ("none1", "static1", "kept1", "moved1", "sym1", "twin1", "twin2")
# Those of networks/nat-kernel-alike.yaml: with them two of each kind meet.
KERNEL_ALIKE = ("static1", "static2", "kept1", "kept2", "moved1", "moved2", "sym1", "sym2")
DIRECT, VIA_HUB = "direct", "via hub"
TABLE = {
    "none": {"none": DIRECT},
    "1:1": {"none": DIRECT, "1:1": DIRECT},
    "port-restricted": {"none": DIRECT, "1:1": DIRECT, "port-restricted": DIRECT},
    "other port": {"none": DIRECT, "1:1": DIRECT, "port-restricted": DIRECT, "other port": DIRECT},
    "symmetric": {
        "none": DIRECT,
        "1:1": DIRECT,
        "port-restricted": VIA_HUB,
        "other port": VIA_HUB,
        "symmetric": VIA_HUB,
    },
    "shared address": {
        "none": DIRECT,
        "1:1": DIRECT,
        "port-restricted": DIRECT,
        "other port": DIRECT,
        "symmetric": VIA_HUB,
        "shared address": DIRECT,
    },
}
KIND_OF = {router: kind for kind, routers in KINDS.items() for router in routers}


def expected(one: str, other: str) -> str:
    """Which way two routers' packets take."""
    row, column = KIND_OF[one], KIND_OF[other]
    return TABLE[row].get(column) or TABLE[column][row]
