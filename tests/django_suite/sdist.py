"""Django's test suite, which only its source distribution has."""

from __future__ import annotations

import sys
import tarfile
import tempfile
from pathlib import Path

import django

from tools.steps import Trouble, run, say


def suite(cache: Path) -> Path:
    """Folder of runtests.py for exactly the installed Django, downloaded if it is not there yet."""
    version = django.get_version()
    target = cache / f"django-{version}"
    if not (target / "tests" / "runtests.py").exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix="django-") as folder:
            _unpack(_download(version, Path(folder)), target)
    return target / "tests"


def _download(version: str, folder: Path) -> Path:
    say(f"downloading the source distribution of Django {version}")
    # Only Django: with :all: pip would build what Django is built with from source, too.
    options = ["--no-deps", "--no-binary", "django", "--dest", str(folder)]
    log = folder.parent / "django-download.log"
    log.unlink(missing_ok=True)
    run([sys.executable, "-m", "pip", "download", *options, f"Django=={version}"], log)
    found = list(folder.glob("*.tar.gz"))
    if len(found) != 1:
        raise Trouble(f"pip brought no source distribution of Django {version} (see {log})")
    return found[0]


def _unpack(archive: Path, target: Path) -> None:
    folder = archive.parent / "unpacked"
    with tarfile.open(archive) as tar:
        # The filter came with 3.10.12 and 3.11.4.
        safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        tar.extractall(folder, **safely)  # type: ignore[arg-type]
    try:
        # A rename, so that a suite that is there is there as a whole.
        next(folder.iterdir()).rename(target)
    except OSError:
        if not (target / "tests" / "runtests.py").exists():
            raise
