"""conn-limit and flow-limit: so many in so much time, for each source unless it says otherwise."""

from dmvpn.firewall.awall.definitions import Definitions, masked
from dmvpn.firewall.awall.document import Node, quoted
from dmvpn.firewall.awall.log_words import LogWords
from dmvpn.firewall.awall.members import NAME, Members
from dmvpn.firewall.policy import Counts, Limit

KINDS = {"conn-limit": Counts.CONNECTIONS, "flow-limit": Counts.PACKETS}
HIGHEST_COUNT = 1_000_000
LONGEST_S = 86_400


class Limits:
    """Reads the limits of rules; what is named is counted by one measure, wherever it is named."""

    def __init__(self, definitions: Definitions, logs: LogWords) -> None:
        self.definitions = definitions
        self.logs = logs
        self.named: dict[str, Limit] = {}

    def of(self, rule: Members) -> Limit | None:
        """The limit of a rule; None when it has none, or it is wrong."""
        words = [word for word in KINDS if word in rule]
        if len(words) == 2:
            rule.wrong(rule.place(words[1]), f"{words[0]} and {words[1]} are both here", "write two rules")
        if len(words) != 1:
            return None
        node = rule.node(words[0])
        if node is None:
            return None
        if not isinstance(node.value, dict):
            count = rule.number(words[0], 0, HIGHEST_COUNT)
            return None if count is None else Limit(count, 1, KINDS[words[0]], log=self.logs.default())
        limit = Members(node, "limit", rule.report)
        found = self._read(limit, KINDS[words[0]])
        rule.sound = rule.sound and limit.sound
        return found if limit.sound else None

    def _read(self, limit: Members, counts: Counts) -> Limit:
        count = limit.number("count", 0, HIGHEST_COUNT)
        interval = limit.number("interval", 1, LONGEST_S)
        name = limit.text("name")
        if name is None and "addr" in limit:
            limit.wrong(limit.place("addr"), "addr is for limits with a name", 'write "dest-mask": true, or a name')
        source, destination = self._named(limit, name) if name is not None else _told_apart(limit)
        found = Limit(
            count=1 if count is None else count,
            interval_s=1 if interval is None else interval,
            counts=counts,
            source_v4=source[0],
            source_v6=source[1],
            destination_v4=destination[0],
            destination_v6=destination[1],
            log=self.logs.of(limit, drops=True),
            name=name,
        )
        if name is not None and limit.sound:
            self._agree(limit, name, found)
        return found

    def _named(self, limit: Members, name: str) -> tuple["Lengths", "Lengths"]:
        if not NAME.fullmatch(name):
            limit.wrong(limit.place("name"), f"{quoted(name)} cannot be a name", "use letters, digits and _ . -")
        for word in ("src-mask", "dest-mask"):
            if word in limit:
                limit.wrong(limit.place(word), f"{word} is for limits without a name", f"write limit: {{{name}: ...}}")
        lengths: Lengths = (32, 128)
        member = self.definitions.sections.named["limit"].get(name)
        if member is not None:
            node = self.definitions.variables.expanded(member.value)
            whole = Members(Node(node.at, {"src-mask": type(member)(member.at, node)}), "limit", limit.report)
            said = masked(whole, "src-mask", node.at)
            limit.sound = limit.sound and whole.sound
            lengths = lengths if said is None else said
        side = limit.text("addr", ("src", "dest"))
        return ((None, None), lengths) if side == "dest" else (lengths, (None, None))

    def _agree(self, limit: Members, name: str, found: Limit) -> None:
        alike = [other for other in self.named if other != name and _bare(other) == _bare(name)]
        if alike:
            limit.wrong(limit.place("name"), f"the limits {alike[0]} and {name} differ in signs only", "rename one")
        before = self.named.setdefault(name, found)
        if (before.count, before.interval_s, before.counts) != (found.count, found.interval_s, found.counts):
            what = f"the limit {name} is {before.count} in {before.interval_s} s elsewhere, of {before.counts}"
            limit.wrong(limit.at, what, "write the same count and interval: what has one name is one count")


def _bare(name: str) -> str:
    """As the kernel's set is named after it."""
    return name.replace("_", ".")


Lengths = tuple[int | None, int | None]


def _told_apart(limit: Members) -> tuple[Lengths, Lengths]:
    source = masked(limit, "src-mask", limit.at)
    destination = masked(limit, "dest-mask", limit.at)
    if source is None:
        # awall: for each source, unless destinations are told apart.
        source = (32, 128) if destination in (None, (None, None)) else (None, None)
    return source, destination if destination is not None else (None, None)
