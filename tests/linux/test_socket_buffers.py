import subprocess
import sys

import pytest

from dmvpn.errors import Fault
from dmvpn.linux.socket_buffers import enlarge_udp

pytestmark = pytest.mark.kernel

CHILD = """
import socket, sys
held = [socket.socket(family, kind) for family in (socket.AF_INET, socket.AF_INET6)
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM)]
print("ready", flush=True)
sys.stdin.readline()
print([one.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= 2 << 20 for one in held], flush=True)
"""


def test_udp_sockets_of_another_process_get_it_and_others_do_not() -> None:
    command = (sys.executable, "-c", CHILD)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        assert enlarge_udp(child.pid, 1 << 20) == 2
        assert enlarge_udp(child.pid, 1 << 10) == 2  # never made smaller
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline() == "[True, False, True, False]\n"


def test_a_process_that_has_gone_is_a_fault() -> None:
    with subprocess.Popen(("true",)) as gone:
        gone.wait()
    with pytest.raises(Fault, match=f"UDP sockets of process {gone.pid}: No such process"):
        enlarge_udp(gone.pid)
