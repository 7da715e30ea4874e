"""A real Apache with mod_wsgi, the shipped vhost file and the tests' site."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Server, site_environment
from tools import httpd
from tools.apache import Apache, public_folder
from tools.httpd import ApacheError, Httpd

ROOT = Path(__file__).parent.parent.parent
StartApache = Callable[..., Apache]
IGNORED = shutil.ignore_patterns("__pycache__")


@pytest.fixture(scope="session")
def project() -> Iterator[Path]:
    """The code, where the daemons' user can read it."""
    folder = public_folder("project")
    shutil.copytree(ROOT / "wsgi_persist", folder / "wsgi_persist", ignore=IGNORED)
    shutil.copytree(ROOT / "tests" / "site", folder / "tests" / "site", ignore=IGNORED)
    (folder / "tests" / "__init__.py").touch()
    (folder / "wsgi.py").write_text("from tests.site.wsgi import application  # noqa: F401\n")
    yield folder
    shutil.rmtree(folder)


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


@pytest.fixture
def debian() -> Httpd:
    """The older generation of mod_wsgi, 4.9."""
    try:
        found = httpd.system()
    except ApacheError as error:
        pytest.skip(str(error))
    if objection := found.objection():
        pytest.skip(objection)
    return found


@pytest.fixture(params=["mod_wsgi 6", "mod_wsgi 4.9"])
def generation(request: pytest.FixtureRequest) -> Httpd:
    if request.param == "mod_wsgi 6":
        return httpd.pypi()
    debian: Httpd = request.getfixturevalue("debian")
    return debian
