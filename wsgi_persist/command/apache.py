"""``wsgi-persist apache``: a virtual host for a site, checked before it is printed."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsgi_persist.command import arguments, sizing, syntax, values
from wsgi_persist.command.reach import find_closed, find_failure, find_obstacles, find_unwritable
from wsgi_persist.command.refusal import Parser, Refused, refuse_if
from wsgi_persist.command.site import Site, find_mistakes
from wsgi_persist.command.template import render
from wsgi_persist.command.workers import account_of, identity

if TYPE_CHECKING:
    # argparse has no public name for it.
    Commands = argparse._SubParsersAction[Parser]

_ABOUT = """\
Prints the virtual host of a site, for Apache's folder of sites. Before that it imports the site
with the site's interpreter, as the workers' user if it is run as root, and looks whether that user
can reach all that it needs.
"""
_EXAMPLE = """\
Three sites whose workers together leave room below PostgreSQL's max_connections:

  wsgi-persist apache --server-name shop.example.org --project /srv/shop \\
      --processes auto --reserve news=8 --reserve wiki=4 --reserve cron=5
  wsgi-persist apache --server-name news.example.org --project /srv/news --processes 8
  wsgi-persist apache --server-name wiki.example.org --project /srv/wiki --processes 4

A graceful restart starts new workers before the old ones have ended: reserve for that, too.
"""


def add_to(commands: Commands) -> None:
    parser = commands.add_parser(
        "apache",
        help="print an Apache virtual host for a site",
        description=_ABOUT,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    arguments.add_to(parser)


def run(given: argparse.Namespace) -> None:
    site = arguments.site_of(given)
    refuse_if([*arguments.find_contradictions(given), *site.find_missing()])
    account = account_of(given.user, given.options or "")
    refuse_if(find_closed(site, account, given.static))
    refuse_if(find_unwritable(given.status, account) if given.status else [])
    automatic = given.processes is None
    facts = site.ask(account, "limits" if automatic else "")
    refuse_if(find_failure(site, facts, account))
    refuse_if([*find_mistakes(site, facts), *find_obstacles(facts, account)])
    size = _automatic(facts, given) if automatic else sizing.Size(given.processes, "")
    defines = _defines(given, site, facts["script"], size)
    refuse_if(values.find_special(defines))
    text = render(defines, {"PERSIST_PROCESSES": size.why})
    if given.check:
        httpd = syntax.find(facts["mod_wsgi"])
        syntax.check(httpd, text)
        print(f"wsgi-persist: syntax OK with {httpd.program} and {httpd.wsgi}", file=sys.stderr)
    _write(text, given.output, given.force)


def _automatic(facts: Mapping[str, Any], given: argparse.Namespace) -> sizing.Size:
    limits = [sizing.Limit(**limit) for limit in [*facts["limits"], *_of_poolers(facts, given)]]
    if not limits:
        untold = facts["poolers"]["untold"] or "there is no alias"
        raise Refused(
            "--processes auto: no alias of DATABASES is connected to PostgreSQL directly, and no pooler "
            f"tells its max_client_conn ({untold}): give --pooler-clients, or a number of processes"
        )
    reserved: dict[str, int] = {}
    for name, number in given.reserve:
        reserved[name] = reserved.get(name, 0) + number
    return sizing.automatic(limits, reserved, sizing.cores())


def _of_poolers(facts: Mapping[str, Any], given: argparse.Namespace) -> list[dict[str, Any]]:
    pooled = [alias for alias, about in facts["aliases"].items() if about["pooler"] is not None]
    if given.pooler_clients is None or not pooled:
        return list(facts["poolers"]["limits"])
    return [{"aliases": pooled, "what": "max_client_conn", "most": given.pooler_clients}]


def _defines(given: argparse.Namespace, site: Site, script: str, size: sizing.Size) -> dict[str, str]:
    defines = {
        "PERSIST_SITE": given.site or given.project.name,
        "PERSIST_SERVER_NAME": given.server_name,
        "PERSIST_PORT": str(given.port),
        "PERSIST_PROJECT": str(site.project),
        "PERSIST_SCRIPT": script,
        "PERSIST_VENV": str(site.venv),
        "PERSIST_PROCESSES": str(size.processes),
    }
    if options := " ".join(filter(None, [identity(given.user), given.options])):
        defines["PERSIST_OPTIONS"] = options
    if given.static:
        defines["PERSIST_STATIC"] = str(given.static)
    return {**defines, **_status_defines(given)}


def _status_defines(given: argparse.Namespace) -> dict[str, str]:
    found = {"PERSIST_STATUS": str(given.status)} if given.status else {}
    if given.status_page:
        found["PERSIST_STATUS_PAGE"] = given.status_page
        # It reads what the workers write.
        if whom := identity(given.user):
            found["PERSIST_STATUS_OPTIONS"] = whom
    return found


def _write(text: str, output: Path | None, force: bool) -> None:
    if output is None:
        sys.stdout.write(text)
        return
    try:
        if output.exists() and not output.is_file():
            output.write_text(text, encoding="utf-8")  # such as /dev/stdout
        else:
            _put(text, output.resolve() if force else output, force)
    except OSError as error:
        raise Refused(f"{output} cannot be written: {error.strerror}") from None


def _put(text: str, output: Path, force: bool) -> None:
    """All of it or nothing: half of a virtual host keeps Apache, with all its sites, from starting."""
    draft = output.with_name(f".{output.name}.{os.getpid()}")
    with draft.open("x", encoding="utf-8"):
        pass
    try:
        draft.write_text(text, encoding="utf-8")
        if output.exists():
            shutil.copymode(output, draft)
        # Only os.link() refuses what came to be there meanwhile.
        (os.replace if force else os.link)(draft, output)
    finally:
        draft.unlink(missing_ok=True)
