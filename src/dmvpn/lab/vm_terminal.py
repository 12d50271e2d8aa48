"""Becomes a program whose controlling terminal is its standard input: Ctrl-C then reaches it. Runs in the guest."""

import fcntl
import os
import sys
import termios


def main() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    try:
        os.execvp(sys.argv[1], sys.argv[1:])
    except OSError as refusal:
        os.write(2, f"dmvpn: {sys.argv[1]}: {(refusal.strerror or '').lower()}\r\n".encode())
        sys.exit(127)


if __name__ == "__main__":
    main()
