"""What systemd and OpenRC have in common: a job at a time, waited for."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence

from dmvpn.linux.services import Applied, Service, ServiceFault


class Jobs(ABC):
    """The verbs of `Services`; how a job is done is the manager's."""

    __slots__ = ()

    @abstractmethod
    def _job(self, verb: str, name: str, /) -> None:
        """Raises ServiceFault when the service is not where it should be afterwards."""

    def start(self, name: str) -> None:
        self._job("start", name)

    def stop(self, name: str) -> None:
        self._job("stop", name)

    def restart(self, name: str) -> None:
        self._job("restart", name)

    def reload(self, name: str) -> None:
        self._job("reload", name)

    def _bring_up(self, name: str) -> None:
        """As `start`, in whatever state it was."""
        self.start(name)

    def _serve(
        self,
        services: Sequence[Service],
        stopped: tuple[str, ...],
        *,
        is_ready: Callable[[str], bool],
        restart: Collection[str],
        reload: Collection[str],
    ) -> Applied:
        """One after the other; `restart` also names those that are described otherwise. Raises ServiceFault."""
        started: list[str] = []
        restarted: list[str] = []
        reloaded: list[str] = []
        for service in services:
            name = service.name
            try:
                if not is_ready(name):
                    started.append(name)
                    self._bring_up(name)
                elif service.daemon and name in restart:
                    restarted.append(name)
                    self.restart(name)
                elif name in reload:
                    reloaded.append(name)
                    self.reload(name)
            except ServiceFault as fault:
                applied = Applied(stopped, tuple(started), tuple(restarted), tuple(reloaded))
                raise ServiceFault(fault.where, fault.what, fault.fix, applied) from fault
        return Applied(stopped, tuple(started), tuple(restarted), tuple(reloaded))
