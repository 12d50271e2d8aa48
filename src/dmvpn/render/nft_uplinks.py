"""nftables for several uplinks: each connection remembers by which it came or left, and its packets keep to it.

What an uplink delivered is answered by it, whatever the default route says; what has left by one goes on by it, when
another comes back or shares. dmvpnd forgets the connections of an uplink that died. The mark is a field; nobody
else's bits are touched.
"""

from dmvpn.network.plan import Plan, Uplink
from dmvpn.render.words import word


def chains(plan: Plan) -> list[str]:
    """Nothing with fewer than two uplinks: then connections need not be tracked."""
    if len(plan.uplinks) < 2:
        return []
    mask = plan.registry.uplink_mask
    rest = ~mask & 0xFFFFFFFF
    devices = ", ".join(f'"{word(uplink.device, "device")}"' for uplink in plan.uplinks)
    lines: list[str] = []
    for uplink in plan.uplinks:
        # nft takes a mark from a constant only, so each uplink has a chain that sets its own.
        lines += [
            f"\tchain {_restore(uplink)} {{",
            f"\t\tmeta mark set meta mark and {rest:#010x} or {uplink.mark:#010x}",
            "\t}",
        ]
    for hook, priority, way in (("prerouting", "mangle", "iifname"), ("postrouting", "mangle", "oifname")):
        lines += [f"\tchain uplink_{hook} {{", f"\t\ttype filter hook {hook} priority {priority}; policy accept;"]
        lines += [
            f'\t\t{way} "{word(uplink.device, "device")}" ct state new ct mark and {mask:#010x} == 0'
            f" ct mark set ct mark and {rest:#010x} or {uplink.mark:#010x}"
            for uplink in plan.uplinks
        ]
        if hook == "prerouting":
            verdicts = ", ".join(f"{uplink.mark:#010x} : goto {_restore(uplink)}" for uplink in plan.uplinks)
            lines.append(f"\t\tiifname != {{ {devices} }} ct mark and {mask:#010x} vmap {{ {verdicts} }}")
        lines.append("\t}")
    return lines


def _restore(uplink: Uplink) -> str:
    return f"uplink_{word(uplink.name, 'uplink')}"
