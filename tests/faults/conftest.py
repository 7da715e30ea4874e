"""The servers of the fault tests: their own, since the faults are done to them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import or_skip
from tests.faults.network import Network


@pytest.fixture
def network() -> Iterator[Network]:
    with or_skip(), Network() as network:
        yield network
