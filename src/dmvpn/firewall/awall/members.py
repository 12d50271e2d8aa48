"""The members of one object, read one by one; what nobody asked for is unknown and wrong."""

import re
from collections.abc import Iterable
from ipaddress import ip_address, ip_network

from dmvpn.firewall.awall.attributes import ATTRIBUTES, LEGACY, REFUSED
from dmvpn.firewall.awall.document import Member, Node, Place, Report, items, quoted
from dmvpn.firewall.awall.wording import article, instead
from dmvpn.firewall.policy import Address, Network, PortRange

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@-]{0,14}\+?")
LONGEST_DEVICE = 15
HIGHEST_PORT = 65535
MOST_ITEMS = 1024  # of one list
ANY_ZONE = ("in", "out")  # awall takes an empty list there for any zone


class Members:
    """An object of a policy. Every getter returns None for what is absent, and for what is wrong and reported.

    `kind` is the section, for ATTRIBUTES and messages. `sound` says whether all that was read was right.
    """

    def __init__(self, node: Node, kind: str, report: Report) -> None:
        self.at = node.at
        self.kind = kind
        self.report = report
        self.sound = True
        self.members: dict[str, Member] = {}
        if isinstance(node.value, dict):
            self._take(node.value)
        else:
            self._wrong(node, f"{article(kind)} is {node.kind}", "write an object, { ... }")

    def _take(self, members: dict[str, Member]) -> None:
        legacy = LEGACY.get(self.kind, {})
        for word, member in members.items():
            today = legacy.get(word, word)
            if today != word:
                self.report.warn(member.at, f"{word} is an old word for {today}", f'write "{today}"')
            if today in REFUSED.get(self.kind, {}):
                what, fix = REFUSED[self.kind][today]
                self.wrong(member.at, f"{word} of {article(self.kind)}: {what}", fix)
            elif today not in ATTRIBUTES[self.kind]:
                self.wrong(
                    member.at, f"{article(self.kind)} has no attribute {quoted(word)}", self._instead(word, member)
                )
            elif today in self.members:
                self.wrong(member.at, f"{word} says {today} a second time", "remove one of them")
            else:
                self.members[today] = member

    def _instead(self, word: str, member: Member) -> str:
        if word == "proto" and "service" in ATTRIBUTES[self.kind] and isinstance(member.value.value, str):
            return f'write "service": {quoted(member.value.value)}'
        return instead(word, ATTRIBUTES[self.kind])

    def wrong(self, at: Place, what: str, fix: str) -> None:
        self.sound = False
        self.report.wrong(at, what, fix)

    def _wrong(self, node: Node, what: str, fix: str) -> None:
        self.sound = False
        # What could not be expanded is null and has been reported, as has every null that is written.
        if node.value is not None:
            self.report.wrong(node.at, what, fix)

    def __contains__(self, word: str) -> bool:
        return word in self.members

    def node(self, word: str) -> Node | None:
        return self.members[word].value if word in self.members else None

    def place(self, word: str) -> Place:
        """Where the value of `word` is; of the object when it is absent."""
        return self.members[word].value.at if word in self.members else self.at

    def text(self, word: str, choices: Iterable[str] = ()) -> str | None:
        """A string, one of `choices` if there are any."""
        node = self.node(word)
        return None if node is None else self._text(word, node, tuple(choices))

    def _text(self, word: str, node: Node, choices: tuple[str, ...]) -> str | None:
        if not isinstance(node.value, str):
            self._wrong(node, f"{word} is {node.kind}", "write a string")
        elif node.value == "":
            self._empty(word, node)
        elif choices and node.value not in choices:
            self._wrong(node, f"{word} cannot be {quoted(node.value)}", instead(node.value, choices))
        else:
            return node.value
        return None

    def _empty(self, word: str, node: Node) -> None:
        if node is self.node(word):
            what = f"{word} is empty: awall takes it away, and {article(self.kind)} without {word} means any"
            self._wrong(node, what, "write a value, or remove the attribute")
        else:
            what = f"an item of {word} is empty: awall leaves it out, and a list without items means nothing at all"
            self._wrong(node, what, "write a value, or remove the item")

    def texts(self, word: str, choices: Iterable[str] = ()) -> tuple[tuple[Node, str], ...] | None:
        """A list of strings, or one, each with its node; empty only for a zone, which then is nothing at all."""
        node = self.node(word)
        if node is None:
            return None
        allowed = tuple(choices)
        found = []
        for item in self.items(word, node):
            value = self._text(word, item, allowed)
            if value is not None:
                found.append((item, value))
        return tuple(found)

    def items(self, word: str, node: Node) -> tuple[Node, ...]:
        found = items(node)
        if not found and self.kind != "zone":
            self._no_items(word, node)
        if len(found) > MOST_ITEMS:
            self._wrong(node, f"{word} has more than {MOST_ITEMS} items", "use an ipset, or wider prefixes")
            return ()
        return found

    def _no_items(self, word: str, node: Node) -> None:
        if word in ANY_ZONE:
            what, fix = "which awall takes for any zone", "name a zone, or remove the attribute if any is meant"
        else:
            what, fix = f"so {article(self.kind)} like this would fit nothing", "write a value, or remove the attribute"
        self._wrong(node, f"{word} is an empty list, {what}", fix)

    def number(self, word: str, low: int, high: int) -> int | None:
        node = self.node(word)
        return None if node is None else self.number_of(word, node, low, high)

    def number_of(self, word: str, node: Node, low: int, high: int) -> int | None:
        value = node.value
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,10}", value):
            value = int(value)  # as awall, which hands it on as text
        if node.value == "":
            self._empty(word, node)
        elif isinstance(value, bool) or not isinstance(value, int):
            self._wrong(node, f"{word} is {node.kind}", f"write a whole number from {low} to {high}")
        elif not low <= value <= high:
            self._wrong(node, f"{word} is {value}", f"write a whole number from {low} to {high}")
        else:
            return value
        return None

    def truth(self, word: str) -> bool | None:
        node = self.node(word)
        if node is None or isinstance(node.value, bool):
            return None if node is None else bool(node.value)
        self._wrong(node, f"{word} is {node.kind}", "write true or false")
        return None

    def networks(self, word: str) -> tuple[Network, ...] | None:
        """Addresses and prefixes. None when it is absent."""
        found = self.texts(word)
        if found is None:
            return None
        return tuple(one for node, text in found if (one := self._network(word, node, text)) is not None)

    def _network(self, word: str, node: Node, text: str) -> Network | None:
        try:
            network: Network = ip_network(text, strict=False)
        except ValueError:
            self._wrong(node, f"{word}: {quoted(text)} is no address and no prefix", _addresses(text))
            return None
        if "/" in text and str(network.network_address) != text.partition("/")[0].lower():
            self.report.warn(node.at, f"{word}: {text[:60]} has bits beyond its length", f"write {network}")
        return network

    def address_of(self, word: str, node: Node, text: str) -> Address | None:
        try:
            return ip_address(text)
        except ValueError:
            self._wrong(node, f"{word}: {quoted(text)} is no address", _addresses(text))
            return None

    def ports(self, word: str) -> tuple[PortRange, ...]:
        node = self.node(word)
        if node is None:
            return ()
        return tuple(one for item in self.items(word, node) if (one := self.port_of(word, item)) is not None)

    def port_of(self, word: str, node: Node) -> PortRange | None:
        value = node.value
        if isinstance(value, str) and "-" in value:
            ends = re.fullmatch(r"([0-9]{1,5})-([0-9]{1,5})", value)
            first, last = (int(ends[1]), int(ends[2])) if ends else (1, 0)
            if first <= last <= HIGHEST_PORT:
                return PortRange(first, last)
            self._wrong(node, f"{word}: {quoted(value)} is no range of ports", 'write "first-last"')
            return None
        port = self.number_of(word, node, 0, HIGHEST_PORT)
        return None if port is None else PortRange(port, port)


def _addresses(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9.-]*[A-Za-z][A-Za-z0-9.-]*", text) and ":" not in text:
        return "DNS names are not looked up, they would be right only once: write the addresses"
    return "write an address such as 192.0.2.1, or a prefix such as 2001:db8::/32"
