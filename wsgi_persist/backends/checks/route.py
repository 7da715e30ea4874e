"""System checks of what stands between a worker and PostgreSQL: a pooler, or several hosts."""

from __future__ import annotations

import os
from collections.abc import Iterator

from django.core import checks

from wsgi_persist.backends.checks.aliases import Alias, driver_module
from wsgi_persist.backends.options import where_to

# ##### What needs a session of its own, where a pooler gives one for a transaction only #####


def _server_side_cursors(alias: Alias) -> Iterator[checks.CheckMessage]:
    if alias.transactions_only and not alias.settings.get("DISABLE_SERVER_SIDE_CURSORS"):
        yield checks.Warning(
            f"{alias.path} is behind a pooler in transaction mode, where QuerySet.iterator() loses its "
            "server-side cursor.",
            hint=f"{alias.path}['DISABLE_SERVER_SIDE_CURSORS'] = True",
            id="wsgi_persist.W005",
        )


def _prepared(alias: Alias) -> Iterator[checks.CheckMessage]:
    prepares = driver_module() == "psycopg" and alias.options.get("prepare_threshold") is not None
    if prepares and alias.transactions_only:
        path = f"{alias.path}['OPTIONS']['prepare_threshold']"
        yield checks.Warning(
            f"{path} is set, but behind a pooler in transaction mode a prepared statement may be unknown "
            "to the next session (PgBouncer before 1.21, or with max_prepared_statements=0).",
            hint=f"{path} = None",
            id="wsgi_persist.W006",
        )


def _startup_options(alias: Alias) -> Iterator[checks.CheckMessage]:
    if alias.transactions_only and alias.options.get("options"):
        path = f"{alias.path}['OPTIONS']['options']"
        yield checks.Warning(
            f"{path} is refused by PgBouncer, or with ignore_startup_parameters dropped without a word.",
            hint=f"del {path}",
            id="wsgi_persist.W015",
        )


def _role(alias: Alias) -> Iterator[checks.CheckMessage]:
    if alias.transactions_only and alias.options.get("assume_role"):
        path = f"{alias.path}['OPTIONS']['assume_role']"
        yield checks.Error(
            f"{path} is set once for a connection, but behind a pooler in transaction mode it stays in a "
            "session that serves others next, and is missing in the others.",
            hint=f"del {path}",
            id="wsgi_persist.E007",
        )


def _reset(alias: Alias) -> Iterator[checks.CheckMessage]:
    if alias.transactions_only and alias.persist.get("reset") == "always":
        path = f"{alias.path}['OPTIONS']['persist']['reset']"
        yield checks.Warning(
            f"{path} = 'always' means nothing behind a pooler in transaction mode, where only the pooler can "
            "reset a session (PgBouncer: server_reset_query_always = 1).",
            hint=f"del {path}",
            id="wsgi_persist.W014",
        )


# ##### Several hosts #####


def _which_host(alias: Alias) -> Iterator[checks.CheckMessage]:
    """libpq takes the first that answers."""
    given = alias.options.get("target_session_attrs") or os.environ.get("PGTARGETSESSIONATTRS", "any")
    setting, host = where_to(alias.settings)
    is_string = "=" in host or "://" in host  # of libpq's, whose password may have a comma
    if "," in host and not is_string and given == "any":
        yield checks.Warning(
            f"{alias.path}{setting} names several hosts, and no target_session_attrs says which of them is "
            "meant: after a switchover, writes meet a standby.",
            hint=f"{alias.path}.setdefault('OPTIONS', {{}})['target_session_attrs'] = 'read-write'",
            id="wsgi_persist.W013",
        )


CHECKS = (_server_side_cursors, _prepared, _startup_options, _role, _reset, _which_host)
