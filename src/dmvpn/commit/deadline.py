"""Until when somebody must confirm a change, on disk: neither a clock that jumps nor a reboot may strand it."""

import json
from dataclasses import asdict, dataclass, replace
from typing import Self

from dmvpn.errors import Fault
from dmvpn.linux.moment import Moment

BOOTS_SURVIVED = 1


@dataclass(frozen=True, slots=True)
class Deadline:
    """Revision `after` is in force until confirmed, or for `within_s` seconds from `armed`; then `before` comes back.

    `before` None stands for "no revision at all".
    """

    before: int | None
    after: int
    within_s: float
    armed: Moment
    boots: int = 0

    def left_s(self, now: Moment) -> float:
        """Seconds that are left; zero or less when it is over.

        Within one boot only the boot's clock counts. After a reboot the wall's does, if it can be right; a router that
        boots again and again, or whose clock fell back, has no way to tell how long it was, so the time is over.
        """
        if now.boot == self.armed.boot and now.boot_s >= self.armed.boot_s:
            return self.within_s - (now.boot_s - self.armed.boot_s)
        passed_s = now.wall_s - self.armed.wall_s
        if self.boots >= BOOTS_SURVIVED or passed_s < 0:
            return 0.0
        return self.within_s - passed_s

    def carried_over(self, now: Moment) -> Self:
        """The same end, counted in this boot's time; itself if it is already."""
        if now.boot == self.armed.boot and now.boot_s >= self.armed.boot_s:
            return self
        return replace(self, within_s=self.left_s(now), armed=now, boots=self.boots + 1)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises Fault for anything that to_json() did not write."""
        try:
            value = json.loads(text)
            armed = value["armed"]
            return cls(
                before=None if value["before"] is None else int(value["before"]),
                after=int(value["after"]),
                within_s=float(value["within_s"]),
                armed=Moment(float(armed["wall_s"]), float(armed["boot_s"]), str(armed["boot"])),
                boots=int(value["boots"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise Fault("unconfirmed.json", "cannot be read", "remove it: what is in force then stays") from error
