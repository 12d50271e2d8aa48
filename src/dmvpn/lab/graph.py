"""The lab as a picture: Mermaid text, from the file alone. https://mermaid.js.org/syntax/flowchart.html."""

from dmvpn.lab.topology import Node, NodeKind, Topology

_SHAPES = {
    NodeKind.ROUTER: ("[", "]"),
    NodeKind.HOST: ("(", ")"),
    NodeKind.NAT: ("{{", "}}"),
    NodeKind.WAN: ("((", "))"),
    NodeKind.SWITCH: ("[/", "/]"),
}


def mermaid(topology: Topology) -> str:
    """Nodes by kind, links with what impairs them."""
    ids = {name: f"n{number}" for number, name in enumerate(topology.nodes)}
    lines = ["flowchart LR"]
    lines += [f"  {ids[node.name]}{_shape(node, topology)}" for node in topology.nodes.values()]
    for link in topology.links.values():
        label = f"|{_quoted(_quality(link.up, link.down))}|" if link.impairable else ""
        lines.append(f"  {ids[link.a.node]} ---{label} {ids[link.b.node]}")
    return "\n".join(lines) + "\n"


def _shape(node: Node, topology: Topology) -> str:
    opening, closing = _SHAPES[node.kind]
    detail = {
        NodeKind.ROUTER: ", ".join(str(address) for address in topology.outside.get(node.name, ())),
        NodeKind.HOST: ", ".join(address for _, address in node.addresses),
        NodeKind.NAT: node.detail,
    }.get(node.kind, "")
    return f"{opening}{_quoted(f'{node.name}<br/>{detail}' if detail else node.name)}{closing}"


def _quality(up: object, down: object) -> str:
    return str(up) if up == down else f"up: {up}, down: {down}"


def _quoted(text: str) -> str:
    # Mermaid has no escape for a quote inside quotes but its entity.
    return '"' + text.replace('"', "#quot;") + '"'
