"""``wsgi-persist status``: what the workers of this host tell of themselves, and what the database says."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsgi_persist.command import arguments, values
from wsgi_persist.command.refusal import Parser, refuse_if
from wsgi_persist.command.table import printable, stamp, table
from wsgi_persist.command.workers import account_of
from wsgi_persist.status import FORMAT, RUNTIME, Level, Site, find_faults, plain, read, running

if TYPE_CHECKING:
    # argparse has no public name for it.
    Commands = argparse._SubParsersAction[Parser]

_ABOUT = """\
Shows what each worker tells of itself in its file below the runtime folder, the worst first. With a
project (or DJANGO_SETTINGS_MODULE) it asks that site's databases, too.
"""
_PAUSE = 1.0  # seconds, of --watch
_ASKED_EVERY = 10.0  # seconds, as each question imports the site
# What plugins of Nagios say with their exit statuses 0, 1 and 2.
_ANSWERS = ("OK", "WARNING", "CRITICAL")
_MOST_TOLD = 5
_CLEAR = "\x1b[H\x1b[2J"


def add_to(commands: Commands) -> None:
    parser = commands.add_parser("status", help="show what the workers of this host do", description=_ABOUT)
    parser.set_defaults(run=run)
    add = parser.add_argument
    add(
        "folder",
        nargs="?",
        type=values.path,
        default=os.environ.get("PERSIST_STATUS") or str(RUNTIME),
        help=f"of one site, or with the folders of several ($PERSIST_STATUS, else {RUNTIME})",
    )
    add("--watch", action="store_true", help="draw it again each second, until Ctrl-C")
    add("--json", action="store_true", help="all of it, for programs")
    add("--check", action="store_true", help="one line for monitoring; exit status 0, 1 or 2")
    add = parser.add_argument_group("the site whose databases are asked").add_argument
    arguments.add_place(add, None)
    add("--user", type=values.user, help="as whom the site is imported by root (www-data)")


def run(given: argparse.Namespace) -> int:
    exclusive = [name for name in ("watch", "json", "check") if getattr(given, name)]
    refuse_if([f"--{exclusive[0]} and --{exclusive[1]}: give one"] if len(exclusive) > 1 else [])
    if given.watch:
        return _watch(given)
    sites, now = read(given.folder), time.time()
    if given.check:
        return _check(sites, now)
    databases = _ask(given)
    print(_json(sites, databases, now) if given.json else _text(sites, databases, given.folder, now))
    return 0


def _check(sites: Sequence[Site], now: float) -> int:
    """One line, of the worst alone."""
    found = list(find_faults(sites, now))
    worst = max((each.level for each in found), default=Level.FINE)
    status = max(worst - Level.NOTE, 0)
    told = [str(each) for each in found if each.level == worst]
    if not status:
        told = [f"{sum(len(running(site)) for site in sites)} workers of {len(sites)} sites"]
    more = [f"and {len(told) - _MOST_TOLD} more"] if len(told) > _MOST_TOLD else []
    print(printable(f"{_ANSWERS[status]} - {'; '.join([*told[:_MOST_TOLD], *more])}"))
    return status


def _watch(given: argparse.Namespace) -> int:
    asked, databases = 0.0, list[dict[str, Any]]()
    try:
        while True:
            now = time.time()
            if now >= asked + _ASKED_EVERY:
                asked, databases = now, _ask(given)
            shown = _text(read(given.folder), databases, given.folder, now)
            print(f"{_CLEAR}{stamp(now)}\n{shown}", flush=True)
            time.sleep(_PAUSE)
    except KeyboardInterrupt:
        return 0


def _text(sites: Sequence[Site], databases: list[dict[str, Any]], folder: Path, now: float) -> str:
    for site in sites:
        for line in site.ignored:
            print(f"wsgi-persist: {site.folder}: {line}", file=sys.stderr)
    absent = [] if sites else [f"No worker tells of itself below {folder}."]
    return "\n".join([*absent, *table(sites, databases, now)])


def _json(sites: Sequence[Site], databases: list[dict[str, Any]], now: float) -> str:
    return json.dumps(
        {"format": FORMAT, "time": now, "sites": list(map(_site, sites)), "databases": databases}, indent=1
    )


def _site(site: Site) -> dict[str, Any]:
    return {
        "name": site.name,
        "folder": str(site.folder),
        "counters": plain(site.counters()),
        "workers": [
            {"state": seen.state, "file": seen.file, **plain(seen.snapshot)} for seen in site.workers
        ],
        "gone": site.gone.workers,
        "ignored": site.ignored,
    }


def _ask(given: argparse.Namespace) -> list[dict[str, Any]]:
    """What the databases of the project say; nothing where none is given."""
    settings = given.settings or os.environ.get("DJANGO_SETTINGS_MODULE")
    if given.project is None and settings is None:
        return []
    given.project = given.project or values.path(".")
    given.settings = None if given.wsgi else settings
    site = arguments.site_of(given)
    refuse_if(site.find_missing())
    facts = site.ask(account_of(given.user, ""), "sessions")
    refuse_if([f"the site, asked by {site.python}: {facts['error']}"] if "error" in facts else [])
    return list(facts["sessions"])
