"""The page of all workers as HTML: what is wrong first, then each site, the worst one first."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import urlencode

from wsgi_persist.status.findings import Finding, Level, find_faults
from wsgi_persist.status.page.database import Database
from wsgi_persist.status.page.marks import SHAPES, WORDS, kind, mark
from wsgi_persist.status.page.markup import Html, joined, tag
from wsgi_persist.status.page.section import section
from wsgi_persist.status.page.sessions import of_database, sessions
from wsgi_persist.status.page.watch import Reading
from wsgi_persist.status.site import Site
from wsgi_persist.status.times import clock

STYLE = Path(__file__).with_name("style.css").read_text()
REFRESHES = (0, 5, 30)


def overview(
    reading: Reading, database: Database | None, chosen: str | None, refresh: int, root: str
) -> Html:
    """:param chosen: the name of the one site that is shown.
    :param refresh: seconds until a browser asks again; 0: not by itself.
    :param root: the address of this page, without a slash at its end.
    """
    sites = [site for site in reading.sites if chosen in (None, site.name)]
    found = _worst_first(reading, sites, database)
    worst = {each.site: each.level for each in reversed(found)}
    sites.sort(key=lambda site: -worst.get(site.name, Level.FINE))
    main = tag(
        "main",
        tag("section", tag("h2", "What is wrong"), _findings(found), aria_label="What is wrong"),
        *(section(site, reading.history, reading.time) for site in sites),
        *([sessions(database, time.time())] if database else []),
    )
    return _document(_title(found, chosen), _header(reading, chosen, refresh, root), main, refresh)


def _worst_first(reading: Reading, sites: list[Site], database: Database | None) -> list[Finding]:
    found = list(find_faults(sites, reading.time))
    found += of_database(database, time.time()) if database else []
    return sorted(found, key=lambda finding: (-finding.level, finding.site))


def refused(status: str, told: str, root: str) -> Html:
    """A short page for what is not there."""
    main = tag("main", tag("p", told), tag("p", tag("a", "All sites", href=f"{root}/")))
    return _document(status, tag("header", tag("h1", status)), main, 0)


def _document(title: str, header: Html, main: Html, refresh: int) -> Html:
    again = Html(f'<meta http-equiv="refresh" content="{refresh}">' if refresh else "")
    return joined(
        Html('<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html('<meta name="color-scheme" content="light dark">'),
        again,
        tag("title", title),
        tag("style", Html(STYLE)),
        Html("</head><body>"),
        header,
        main,
        Html("</body></html>\n"),
    )


def _title(found: list[Finding], chosen: str | None) -> str:
    """With the worst in front: a tab shows no more."""
    level = found[0].level if found else Level.FINE
    return f"{SHAPES[level]} {WORDS[level]}: connections of {chosen or socket.gethostname()}"


def _header(reading: Reading, chosen: str | None, refresh: int, root: str) -> Html:
    where = f"{socket.gethostname()}, {clock(reading.time, reading.time)}"
    return tag(
        "header",
        tag("h1", "Database connections of the workers"),
        tag("p", where),
        tag("nav", _links("Sites", _sites(reading.sites, chosen, refresh)), aria_label="Sites"),
        tag("nav", _links("Refresh", _refreshes(chosen, refresh)), aria_label="Refresh"),
        tag("p", tag("a", "Metrics for Prometheus", href=f"{root}/metrics")),
    )


def _links(title: str, links: Iterable[tuple[str, str, bool]]) -> Html:
    drawn = (tag("a", text, href=href, aria_current="true" if here else None) for text, href, here in links)
    return joined(tag("b", title), *(joined(" ", link) for link in drawn))


def _sites(sites: list[Site], chosen: str | None, refresh: int) -> Iterator[tuple[str, str, bool]]:
    yield "all", _query(None, refresh), chosen is None
    for name in dict.fromkeys(site.name for site in sites):
        yield name, _query(name, refresh), chosen == name


def _refreshes(chosen: str | None, refresh: int) -> Iterator[tuple[str, str, bool]]:
    for seconds in REFRESHES:
        yield f"every {seconds} s" if seconds else "off", _query(chosen, seconds), refresh == seconds


def _query(site: str | None, refresh: int) -> str:
    given = {**({"site": site} if site is not None else {}), **({"refresh": refresh} if refresh else {})}
    return "?" + urlencode(given, errors="surrogateescape")


def _findings(found: list[Finding]) -> Html:
    if not found:
        return tag("p", mark(Level.FINE), " Nothing is wrong.", class_="fine")
    lines = (tag("li", mark(each.level), " ", *_told(each), class_=kind(each.level)) for each in found)
    return tag("ul", *lines, class_="findings")


def _told(finding: Finding) -> tuple[str, ...]:
    return (tag("b", finding.site), ": ", finding.text) if finding.site else (finding.text,)
