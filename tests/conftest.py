"""What all tests share."""

import os

from hypothesis import settings

pytest_plugins = ("vm_plugin", "streams_plugin")

# The gate sees the same examples on every machine; `DMVPN_HYPOTHESIS=deep` looks further, with new ones each time.
settings.register_profile("gate", derandomize=True, deadline=None, max_examples=100, database=None)
settings.register_profile("deep", deadline=None, max_examples=5000)
settings.load_profile(os.environ.get("DMVPN_HYPOTHESIS", "gate"))
