"""`python -m bench.offload DEVICE...`: switch segmentation and receive offload off. <linux/ethtool.h>"""

import ctypes
import fcntl
import socket
import struct
import sys

_SIOCETHTOOL = 0x8946
_SET_TSO, _SET_GSO, _SET_GRO = 0x1F, 0x24, 0x2C


def switch_off(device: str) -> None:
    """Raises OSError if the device does not let itself be told."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as query:
        for command in (_SET_TSO, _SET_GSO, _SET_GRO):
            value = ctypes.create_string_buffer(struct.pack("II", command, 0))
            request = struct.pack("16sP", device.encode(), ctypes.addressof(value)).ljust(40, b"\0")
            fcntl.ioctl(query, _SIOCETHTOOL, request)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        switch_off(name)
