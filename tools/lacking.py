"""``python -m tools.lacking py311-django52-psycopg-pg15-postgis``: what this machine lacks for that.

Asked inside an environment of the matrix, before its tests. Status 77 and one line if something is
missing; what is there is for the tests to check.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from ctypes.util import find_library
from functools import partial
from pathlib import Path
from subprocess import check_output

from tools import httpd
from tools.postgres import binaries

MARK = "not to be had: "
STATUS = 77


def lacking(name: str) -> str | None:
    """The first thing that is missing."""
    asked = name.split("-")
    for factor, look in LOOKS.items():
        if factor in asked and (found := next(look(), None)):
            return found
    return None


def postgres() -> Iterator[str]:
    try:
        binaries()
    except RuntimeError as missing:
        yield str(missing)


def postgis() -> Iterator[str]:
    if find_library("gdal") is None:
        yield "no GDAL library (Debian: apt-get install gdal-bin)"
    shared = check_output([str(binaries() / "pg_config"), "--sharedir"], text=True).strip()
    if not (Path(shared) / "extension" / "postgis.control").exists():
        yield f"no PostGIS beside {binaries()} (Debian: apt-get install postgresql-15-postgis-3)"


def of_debian(generation: int) -> Iterator[str]:
    try:
        found = httpd.system()
    except httpd.ApacheError as error:
        yield str(error)
        return
    if objection := found.objection():
        yield objection
    if found.generation != generation:
        yield f"the machine's mod_wsgi is {found.generation}, not {generation}"


def readable() -> Iterator[str]:
    """What a root-owned home hides from Apache's user."""
    try:
        httpd.require_readable([Path(sys.executable).resolve(), Path(os.__file__)])
    except httpd.ApacheError as error:
        yield str(error)


LOOKS: dict[str, Callable[[], Iterator[str]]] = {
    "pg15": postgres,
    "pg17": postgres,
    "pg18": postgres,
    "postgis": postgis,
    "modwsgi4": partial(of_debian, 4),
    "modwsgi5": partial(of_debian, 5),
    "modwsgi6": readable,
}


def main(name: str) -> int:
    found = lacking(name)
    if found:
        print(f"{MARK}{found}")
    return STATUS if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
