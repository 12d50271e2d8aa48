"""The wall clock, as far as a router can tell alone: it never runs back, and the kernel knows whether NTP keeps it."""

import ctypes
from collections.abc import Iterator
from datetime import timedelta

from dmvpn.doctor.patient import Patient
from dmvpn.doctor.report import At, Finding, Layer

HERE = At(Layer.SYSTEM)
TOLERANCE = timedelta(minutes=10)
_TIMEX_OCTETS = 256  # struct timex of sys/timex.h has 208
_UNSYNCHRONISED = 5  # TIME_ERROR, adjtimex(2)


def clock(patient: Patient) -> Iterator[Finding]:
    """Certificates are judged by this clock, so one that is years off looks like papers that are."""
    now, applied = patient.now, patient.applied
    shown = f"{now:%Y-%m-%d %H:%M} UTC"
    if applied is not None and now < applied - TOLERANCE:
        what = f"{shown}, and the configuration in force was written at {applied:%Y-%m-%d %H:%M}: it ran back"
        yield HERE.failed("clock", what, "set it, and have NTP keep it: a machine without a battery loses it")
        return
    yield HERE.ok("clock", f"{shown}, {'kept by NTP' if is_kept() else 'not kept by NTP as far as the kernel knows'}")


def is_kept() -> bool:
    """Read only: without modes adjtimex(2) needs no privilege."""
    facts = ctypes.create_string_buffer(_TIMEX_OCTETS)
    state = ctypes.CDLL(None, use_errno=True).adjtimex(facts)
    return bool(0 <= state < _UNSYNCHRONISED)
