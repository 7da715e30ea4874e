"""The servers of the fault tests: their own, since the faults are done to them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults import Unavailable
from tests.faults.network import Network


@pytest.fixture
def network() -> Iterator[Network]:
    try:
        network = Network()
    except Unavailable as missing:
        pytest.skip(str(missing))
    with network:
        yield network
