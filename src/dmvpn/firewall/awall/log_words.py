"""`log` of rules and of limits: which class logs, if any."""

from dmvpn.firewall.awall.definitions import Definitions
from dmvpn.firewall.awall.members import Members
from dmvpn.firewall.policy import Log

DEFAULT = "_default"


class LogWords:
    """Reads `log` where it is written, and collects the classes that are used."""

    def __init__(self, definitions: Definitions) -> None:
        self.definitions = definitions
        self.used: dict[str, Log] = {}

    def default(self) -> str | None:
        return self._use(DEFAULT)

    def of(self, members: Members, *, drops: bool) -> str | None:
        """The class that logs: the one named; the default one for true, and where it is not said and packets go."""
        node = members.node("log")
        if node is None:
            return self.default() if drops else None
        if isinstance(node.value, bool):
            return self.default() if node.value else None
        name = members.text("log")
        if name is None:
            return None
        if self.definitions.log(node, name) is None:
            members.sound = False
            return None
        return self._use(name)

    def _use(self, name: str) -> str | None:
        log = self.definitions.logs.get(name)
        if log is None or name in self.definitions.silent_logs:
            return None
        self.used[name] = log
        return name
