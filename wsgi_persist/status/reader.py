"""All sites below a runtime folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from wsgi_persist.status.shape import Malformed
from wsgi_persist.status.site import Site, line_about, read_site
from wsgi_persist.status.tidy import tidy

# Where the sites' folders are, if nothing else is said.
RUNTIME = Path("/run/wsgi_persist")


def read(folder: Path = RUNTIME) -> list[Site]:
    """The sites of *folder*: itself, if it has workers, and the folders in it; none where there is nothing.

    Removes what workers left that ended a while ago, if this process runs as the owner of the folder.
    """
    sites = map(read_and_tidy, _folders(folder))
    return [site for site in sites if site.workers or site.gone.workers or site.ignored]


def read_and_tidy(folder: Path) -> Site:
    site = read_site(folder)
    try:
        tidy(site)
    except (OSError, Malformed) as error:
        site.ignored.append(line_about("what ended workers left", error))
    return site


def _folders(folder: Path) -> Iterator[Path]:
    yield folder
    try:
        with os.scandir(folder) as entries:
            found = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return  # that of the folder itself is told by its site
    yield from (folder / name for name in found)
