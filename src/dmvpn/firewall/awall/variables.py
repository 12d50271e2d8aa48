"""Variables of awall's files: `$name` as a string or inside of one, defined anywhere; the last definition counts."""

import re
from collections.abc import Mapping

from dmvpn.firewall.awall.document import DEEPEST, MOST_NODES, Member, Node, Place, Report, Unreadable, quoted
from dmvpn.firewall.awall.wording import instead

REFERENCE = re.compile(r"\$([A-Za-z][A-Za-z0-9_]*)")
LONGEST = 4096  # characters of a string, its variables followed

# Of awall itself; what they switch is not here, or always so.
CONTROL = {
    "awall_dedicated_chains": "the rules are always in a table of their own, beside what others have",
    "awall_families": "rules are always made for IPv4 and IPv6",
    "awall_schema_check": "attributes are always checked",
    "awall_tproxy_mark": "there is no tproxy here",
}


class Variables:
    """Expands references. A value that comes whole from a variable has the place of its definition: there it is mended.

    What expands to an empty string is refused: awall takes the attribute away, and a rule without its zone, or a zone
    without its device, then fits everything.
    """

    def __init__(self, definitions: Mapping[str, Member], report: Report) -> None:
        self.definitions = definitions
        self.report = report
        self.nodes = 0
        for name, means in CONTROL.items():
            if name in definitions:
                report.warn(definitions[name].at, f"{name} changes nothing: {means}", "remove it")

    def expanded(self, node: Node) -> Node:
        """The value with its variables in place. What cannot be expanded is null, and in the report."""
        try:
            return self._expanded(node, (), 0)
        except Unreadable:
            return Node(node.at, None)

    def _expanded(self, node: Node, within: tuple[str, ...], depth: int) -> Node:
        self.nodes += 1
        if self.nodes > MOST_NODES or depth > DEEPEST:
            if self.nodes <= MOST_NODES + 1 or depth > DEEPEST:
                self.report.wrong(
                    node.at, "the policies are too large once variables are followed", "write less of them"
                )
            raise Unreadable
        match node.value:
            case str():
                return self._string(node, node.value, within, depth)
            case tuple():
                return Node(node.at, tuple(self._expanded(item, within, depth + 1) for item in node.value))
            case dict():
                members = {
                    name: Member(member.at, self._expanded(member.value, within, depth + 1))
                    for name, member in node.value.items()
                }
                return Node(node.at, members)
        return node

    def _string(self, node: Node, text: str, within: tuple[str, ...], depth: int) -> Node:
        whole = REFERENCE.fullmatch(text)
        if whole is not None:
            return self._variable(node.at, whole[1], within, depth)
        parts: list[str] = []
        end = 0
        for reference in REFERENCE.finditer(text):
            parts.append(text[end : reference.start()])
            end = reference.end()
            value = self._variable(node.at, reference[1], within, depth).value
            if isinstance(value, bool) or not isinstance(value, str | int | None):
                what = f"${reference[1]} is {Node(node.at, value).kind}, and stands inside of a string"
                self.report.wrong(node.at, what, "only strings and numbers can be put into one")
                raise Unreadable
            parts.append("" if value is None else str(value))
            if sum(map(len, parts)) > LONGEST:
                self.report.wrong(node.at, f"the string is longer than {LONGEST} characters", "write less of it")
                raise Unreadable
        parts.append(text[end:])
        return Node(node.at, "".join(parts))

    def _variable(self, at: Place, name: str, within: tuple[str, ...], depth: int) -> Node:
        if name in within:
            self.report.wrong(at, f"the variable {quoted(name)} is defined by itself", "write its value")
            raise Unreadable
        if name not in self.definitions:
            self.report.wrong(at, f"no policy defines the variable {quoted(name)}", instead(name, self.definitions))
            raise Unreadable
        return self._expanded(self.definitions[name].value, (*within, name), depth + 1)
