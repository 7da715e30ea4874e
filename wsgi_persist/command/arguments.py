"""The arguments of ``wsgi-persist apache``, and what they say about the site."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from wsgi_persist.command import values
from wsgi_persist.command.site import Site

STATUS_SCRIPT = "persist_status.py"


def add_to(parser: argparse.ArgumentParser) -> None:
    _add_site(parser)
    _add_workers(parser)
    _add_status(parser)
    _add_output(parser)


def _add_site(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("the site").add_argument
    add("--server-name", required=True, type=values.server_name, metavar="NAME", help="host name of the site")
    add("--port", type=values.whole(1, 65535), default=80, help="that Apache listens on (80)")
    add_place(add, ".")
    add("--static", type=values.path, metavar="DIR", help="folder that Apache serves below /static/")


def add_place(add: Callable[..., object], project: str | None) -> None:
    """Where a site is, for :func:`site_of`."""
    add(
        "--project",
        type=values.path,
        default=project,
        metavar="DIR",
        help="folder from which the site's packages are imported (the current one)",
    )
    add(
        "--wsgi",
        type=values.plain,
        metavar="FILE",
        help="the script, or its module (wsgi.py, or the one */wsgi.py of the project)",
    )
    add(
        "--settings",
        type=values.module_name,
        metavar="MODULE",
        help="Django's settings: the script is that of their WSGI_APPLICATION, and has to use them",
    )
    add(
        "--venv",
        type=values.path,
        metavar="DIR",
        help="virtual environment (venv or .venv in the project, else the one that runs this)",
    )


def _add_workers(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("its workers").add_argument
    add(
        "--site", type=values.site_name, metavar="NAME", help="name of the group (that of the project folder)"
    )
    add("--user", type=values.user, help="whom they run as (Apache's own, such as www-data)")
    add(
        "--processes",
        type=values.processes,
        default=4,
        metavar="N|auto",
        help="requests served at once, and connections for each alias (4); or auto",
    )
    add(
        "--reserve",
        type=values.reserved,
        action="append",
        default=[],
        metavar="[NAME=]N",
        help="for auto: connections of others to the server or pooler (processes x aliases); can be repeated",
    )
    add(
        "--pooler-clients",
        type=values.whole(1, 1_000_000),
        metavar="N",
        help="for auto: the pooler's max_client_conn, where it does not tell the site's user (stats_users)",
    )
    add("--options", type=values.plain, help="further options of WSGIDaemonProcess")


def _add_status(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("what they tell of themselves").add_argument
    add(
        "--status",
        type=values.path,
        metavar="DIR",
        help="their folder (/run/wsgi_persist/NAME if it is there)",
    )
    add(
        "--status-page",
        type=values.address,
        metavar="PATH",
        help="show them there, such as at /persist-status, by the project's persist_status.py",
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("the file").add_argument
    add("--check", action="store_true", help="let Apache test the syntax")
    add("--output", type=values.path, metavar="FILE", help="write there, not to the standard output")
    add("--force", action="store_true", help="overwrite that file")


def site_of(given: argparse.Namespace) -> Site:
    return Site(given.project, given.venv or _venv_of(given.project), _script_of(given), given.settings)


def find_contradictions(given: argparse.Namespace) -> Iterator[str]:
    if given.wsgi and given.settings:
        yield "--wsgi and --settings both name the script: give one"
    if given.reserve and given.processes is not None:
        yield f"--reserve is for --processes auto, not for --processes {given.processes}: leave one out"
    if given.pooler_clients and given.processes is not None:
        yield "--pooler-clients is for --processes auto: leave one out"
    if given.force and not given.output:
        yield "--force is for --output FILE: leave it out"
    if given.output and given.output.exists() and not given.force:
        yield f"{given.output} exists: give another --output, or --force to overwrite it"
    if given.static and not given.static.is_dir():
        yield f"the folder {given.static} does not exist: collect the static files first"
    page = given.project / STATUS_SCRIPT
    if given.status_page and not page.is_file():
        yield f"--status-page: {page} does not exist: copy deploy/{STATUS_SCRIPT} there"
    name = given.site or given.project.name
    if not re.fullmatch(values.SITE_NAME, name):
        yield f"{name!r}, the project folder's name, cannot name the workers: give --site"
    yield from _find_overridden(given.options or "", given.processes)
    for folder in filter(None, (given.project, given.static)):
        if set("*?[") & set(str(folder)):
            yield f"{folder} has a '*', '?' or '[', by which <Directory> means other folders: rename it"
    # In python-path, which mod_wsgi splits there.
    if ":" in str(given.project):
        yield f"{given.project} has a ':', which mod_wsgi takes for two folders: move the project"


def _find_overridden(options: str, processes: int | None) -> Iterator[str]:
    """The last option given counts for mod_wsgi, and what was computed here would not."""
    own = {"user": "give --user", "processes": "give --processes", "python-home": "give --venv"}
    if processes is None:
        own["threads"] = "give --processes N; each thread keeps connections of its own"
    for name, mend in own.items():
        if re.search(rf"(?<!\S){name}=", options):
            yield f"--options {name}= would undo what is computed here: {mend}"


def _venv_of(project: Path) -> Path:
    inside = (project / name for name in ("venv", ".venv"))
    return next((venv for venv in inside if (venv / "bin" / "python").exists()), Path(sys.prefix))


def _script_of(given: argparse.Namespace) -> Path | None:
    """None where the settings have to be asked."""
    project: Path = given.project
    if given.settings and not given.wsgi:
        return None
    if given.wsgi is None:
        inside = sorted(project.glob("*/wsgi.py"))
        found = inside[0] if len(inside) == 1 else None
        return project / "wsgi.py" if found is None or (project / "wsgi.py").exists() else found
    file = values.absolute(project / given.wsgi)
    # "shop.wsgi" is Django's name of a module more often than Apache's of a file.
    if file.is_file() or file.suffix == ".py" or not re.fullmatch(values.MODULE_NAME, given.wsgi):
        return file
    return Path(project, *given.wsgi.split(".")).with_suffix(".py")
