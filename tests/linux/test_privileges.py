import subprocess
import sys

import pytest

pytestmark = pytest.mark.kernel

SCRIPT = """
import subprocess
from dmvpn.linux.privileges import Capability, effective, keep_only
keep_only([Capability.NET_RAW])
assert effective() == {Capability.NET_RAW}, effective()
# A new program run by root would get the whole bounding set back.
print(subprocess.run(["sed", "-n", "s/^CapEff:.//p", "/proc/self/status"], capture_output=True, text=True).stdout)
"""


def test_what_is_given_up_is_gone_for_children_too() -> None:
    done = subprocess.run((sys.executable, "-c", SCRIPT), capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert int(done.stdout, 16) == 1 << 13
