from collections.abc import Iterator
from pathlib import Path

import pytest
from small_router import Router


@pytest.fixture
def router(tmp_path: Path) -> Iterator[Router]:
    made = Router(tmp_path)
    yield made
    made.services.shut_down()
