"""A real Apache with mod_wsgi, the shipped vhost file and the tests' site."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import Server, site_environment
from tests.served import public_project
from tools.apache import Apache, public_folder


@pytest.fixture(scope="session")
def project() -> Iterator[Path]:
    with public_project() as folder:
        yield folder


@pytest.fixture
def apache(project: Path, server: Server) -> Iterator[Callable[..., Apache]]:
    """Starts an Apache; how many workers, further options of theirs, settings of the site."""
    with ExitStack() as running:

        def start(processes: int = 1, options: str = "", **environment: str) -> Apache:
            root = public_folder("apache")
            running.callback(shutil.rmtree, root)
            apache = Apache(
                root,
                defines={
                    "PERSIST_PROJECT": str(project),
                    "PERSIST_PROCESSES": str(processes),
                    **({"PERSIST_OPTIONS": options} if options else {}),
                },
                environ=site_environment(server.cluster, SITE_ALIASES="{}", PYTHONPATH="", **environment),
                reaches=[server.cluster.socket_dir],
            )
            return running.enter_context(apache)

        yield start
