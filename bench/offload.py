"""`python -m bench.offload off|gro|card DEVICE...`: segmentation and receive offload off; receive offload on; TCP
segmentation off. ethtool(8)
"""

import ctypes
import fcntl
import socket
import struct
import sys

_SIOCETHTOOL = 0x8946
_SET_TSO, _SET_GSO, _SET_GRO = 0x1F, 0x24, 0x2C


_WORDS = {"off": {_SET_TSO: 0, _SET_GSO: 0, _SET_GRO: 0}, "gro": {_SET_GRO: 1}, "card": {_SET_TSO: 0}}


def switch(device: str, settings: dict[int, int]) -> None:
    """Raises OSError if the device does not let itself be told."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as query:
        for command, wanted in settings.items():
            value = ctypes.create_string_buffer(struct.pack("II", command, wanted))
            request = struct.pack("16sP", device.encode(), ctypes.addressof(value)).ljust(40, b"\0")
            fcntl.ioctl(query, _SIOCETHTOOL, request)


if __name__ == "__main__":
    for name in sys.argv[2:]:
        switch(name, _WORDS[sys.argv[1]])
