"""Now, by two clocks: the wall's, which may jump, and the one that counts seconds of this boot. clock_gettime(2)."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")  # random(4)


@dataclass(frozen=True, slots=True)
class Moment:
    """`wall_s` is Unix time; `boot_s` counts from boot, sleep included; `boot` names the boot."""

    wall_s: float
    boot_s: float
    boot: str


def now() -> Moment:
    """Raises OSError without /proc."""
    return Moment(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME), _BOOT_ID.read_text().strip())
