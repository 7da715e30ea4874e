"""PostgreSQL's sessions on the page: how many there are, how many there may be, and who holds them."""

from __future__ import annotations

from collections.abc import Iterator

from wsgi_persist.status.findings import Finding, Level
from wsgi_persist.status.page.database import PAUSE, Account, Database, Sessions
from wsgi_persist.status.page.markup import Html, table, tag
from wsgi_persist.status.times import ago

NAME = "PostgreSQL"
PATIENCE = 3 * PAUSE
FULL = 0.9  # of the sessions that there may be
COLUMNS = (
    *("Database", "Application", "Sessions", "Active", "Idle"),
    *("Idle in transaction", "Oldest transaction"),
)


def of_database(database: Database, now: float) -> Iterator[Finding]:
    account = database.account
    if database.error:
        yield Finding(Level.FAULT, NAME, database.error)
    elif account is not None and now - account.time > PATIENCE:
        yield Finding(Level.FAULT, NAME, f"No answer for {ago(now - account.time)}")
    if account is not None and account.used >= FULL * (account.most - account.reserved):
        yield Finding(Level.WARNING, NAME, _told(account))


def sessions(database: Database, now: float) -> Html:
    account = database.account
    if account is None:
        shown = [tag("p", database.error or "It has not answered yet.")]
    else:
        told = tag("p", f"{_told(account)}, {ago(now - account.time)} ago.")
        shown = [told, table("Sessions", COLUMNS, map(_row, account.sessions))]
    return tag("section", tag("h2", NAME), *shown, aria_label=NAME)


def _row(each: Sessions) -> list[object]:
    oldest = ago(each.oldest) if each.oldest else ""
    counts = [str(each.count), str(each.active), str(each.idle), str(each.idle_in_transaction)]
    return [each.database, each.application, *counts, oldest]


def _told(account: Account) -> str:
    kept = f"; {account.reserved} more are reserved" if account.reserved else ""
    return f"{account.used} of {account.most - account.reserved} sessions are in use{kept}"
