"""A real Apache with mod_wsgi, the shipped vhost file and the tests' site."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Server, site_environment
from tests.served import public_project
from tools import httpd
from tools.apache import Apache, public_folder
from tools.httpd import ApacheError, Httpd

StartApache = Callable[..., Apache]


@pytest.fixture(scope="session")
def project() -> Iterator[Path]:
    with public_project() as folder:
        yield folder


@pytest.fixture
def apache(project: Path, server: Server) -> Iterator[StartApache]:
    """Starts an Apache; how many workers, further options of theirs, settings of the site."""
    with ExitStack() as running:

        def start(
            processes: int = 1,
            options: str = "",
            *,
            defines: Mapping[str, object] | None = None,
            given: Mapping[str, Any] | None = None,
            **environment: str,
        ) -> Apache:
            root = public_folder("apache")
            running.callback(shutil.rmtree, root)
            apache = Apache(
                root,
                defines={
                    "PERSIST_PROJECT": str(project),
                    "PERSIST_PROCESSES": str(processes),
                    **({"PERSIST_OPTIONS": options} if options else {}),
                    **{name: str(value) for name, value in (defines or {}).items()},
                },
                environ=site_environment(server.cluster, SITE_ALIASES="{}", PYTHONPATH="", **environment),
                reaches=[server.cluster.socket_dir],
                **(given or {}),
            )
            return running.enter_context(apache)

        yield start


def require_tls() -> Httpd:
    """The Apache at hand, or the test is skipped."""
    found = httpd.at_hand()
    if lack := found.lacks_tls():
        pytest.skip(lack)
    return found


@pytest.fixture
def mod_wsgi_6() -> None:
    if httpd.at_hand().old:
        pytest.skip("what this is about came with mod_wsgi 6; the one at hand is older")


@pytest.fixture
def debian() -> Httpd:
    """With the mod_wsgi of the distribution, which is older: 4.9 in Debian 12, 5.0 in Debian 13."""
    try:
        found = httpd.system()
    except ApacheError as error:
        pytest.skip(str(error))
    if objection := found.objection():
        pytest.skip(objection)
    return found


@pytest.fixture(params=["PyPI's mod_wsgi", "Debian's mod_wsgi"])
def generation(request: pytest.FixtureRequest) -> Httpd:
    if request.param.startswith("PyPI"):
        return httpd.pypi()
    debian: Httpd = request.getfixturevalue("debian")
    return debian
