"""How slow this machine is: limits that only guard against waiting for ever are stretched by it.

An emulated machine runs everything several times slower. DMVPN_PACE=8 says so; nothing that a protocol or a promise
says about time is stretched.
"""

import os

LARGEST = 60.0
VARIABLE = "DMVPN_PACE"


def _factor(text: str) -> float:
    """Between 1 and 60; anything that is no number is 1."""
    try:
        value = float(text)
    except ValueError:
        return 1.0
    return min(max(value, 1.0), LARGEST)


FACTOR = _factor(os.environ.get(VARIABLE, "1"))


def patience(seconds: float) -> float:
    """A limit as it is on this machine."""
    return seconds * FACTOR
