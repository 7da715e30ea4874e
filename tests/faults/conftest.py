"""The servers of the fault tests: their own, since the faults are done to them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import SCHEMA
from tests.faults import Unavailable
from tests.faults.faults import Faults
from tests.faults.network import Network
from tests.faults.standby import query
from tools.postgres import Cluster


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("faults")
    for folder in (root, *root.parents[:2]):
        folder.chmod(0o755)  # PostgreSQL runs as another user when the tests run as root
    return root


@pytest.fixture(scope="module")
def victim(root: Path) -> Iterator[Cluster]:
    """A server that a test may do anything to."""
    cluster = Cluster(root / "victim", ["fsync=off"]).create().start()
    query(cluster, "CREATE DATABASE site")
    query(cluster, SCHEMA, "site")
    yield cluster
    cluster.destroy()


@pytest.fixture
def faults(victim: Cluster, driver: ModuleType) -> Faults:
    return Faults(victim, driver)


@pytest.fixture
def network() -> Iterator[Network]:
    try:
        network = Network()
    except Unavailable as missing:
        pytest.skip(str(missing))
    with network:
        yield network
