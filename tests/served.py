"""The tests' site, as Apache serves it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.apache import public_folder

ROOT = Path(__file__).parent.parent
PARTS = ("wsgi_persist", "tests/site", "tests/bench/backends")
IGNORED = shutil.ignore_patterns("__pycache__")


@contextmanager
def public_project() -> Iterator[Path]:
    """The code, where the daemons' user can read it."""
    folder = public_folder("project")
    for part in PARTS:
        shutil.copytree(ROOT / part, folder / part, ignore=IGNORED)
    for package in ("tests", "tests/bench"):
        (folder / package / "__init__.py").touch()
    (folder / "wsgi.py").write_text("from tests.site.wsgi import application  # noqa: F401\n")
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
