"""Two ends of a UDP conversation, to be called inside nodes."""

import socket
import time


def answer_from(address: tuple[str, int], conversations: int | None) -> list[tuple[str, int]]:
    """Echoes at `address`; returns who asked, after so many different ones (None: never)."""
    askers: list[tuple[str, int]] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as port:
        port.bind(address)
        while conversations is None or len(askers) < conversations:
            octets, asker = port.recvfrom(100)
            if octets == b"?":  # a thank-you of an earlier conversation may still be on its way
                port.sendto(octets, asker)
                askers += [] if asker in askers else [asker]
    return askers


def ask_from(own_port: int, address: tuple[str, int], tries: int = 20) -> bool:
    """Sends every 0.2 s, so many times; whether anything came back from that address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as port:
        port.bind(("0.0.0.0", own_port))
        port.settimeout(0.2)
        heard = False
        for _ in range(tries):
            port.sendto(b"?", address)
            deadline = time.monotonic() + 0.2
            while not heard and time.monotonic() < deadline:
                try:
                    heard = port.recvfrom(100)[1] == address
                except OSError:
                    break
            if heard:
                port.sendto(b"!", address)  # the other side may be waiting for its first
                return True
    return False
