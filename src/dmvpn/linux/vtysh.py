"""placeholder"""
from pathlib import Path
from typing import Any
def bgp_peers(run: Path) -> tuple[Any, ...]: return ()
