"""`start_charon.py RUN_DIR STRONGSWAN_CONF`: become a charon whose /run is RUN_DIR, in this network namespace."""

import os
import signal
import sys
from pathlib import Path

from dmvpn.linux import namespaces

run_dir, configuration = sys.argv[1:]
namespaces.die_with_parent(signal.SIGKILL)
namespaces.unshare(namespaces.CLONE_NEWNS)
namespaces.mount("none", Path("/"), flags=namespaces.MS_REC | namespaces.MS_PRIVATE)
namespaces.mount(run_dir, Path("/run"), flags=namespaces.MS_BIND)
os.execve("/usr/lib/ipsec/charon", ("charon",), {**os.environ, "STRONGSWAN_CONF": configuration})
