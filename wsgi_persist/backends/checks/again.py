"""What ``replay_requests="all"`` needs beside it."""

from __future__ import annotations

from collections.abc import Iterator

from django.core import checks

from wsgi_persist.backends.checks.aliases import Alias


def _autocommit(alias: Alias) -> Iterator[checks.CheckMessage]:
    if alias.persist.get("replay_requests") == "all" and not alias.settings.get("ATOMIC_REQUESTS"):
        yield checks.Warning(
            f"{alias.path}['OPTIONS']['persist']['replay_requests'] = 'all' runs no request again that wrote "
            "outside of atomic(): what was written in autocommit cannot be undone.",
            hint=f"{alias.path}['ATOMIC_REQUESTS'] = True",
            id="wsgi_persist.W016",
        )


def _outcome(alias: Alias) -> Iterator[checks.CheckMessage]:
    given = alias.persist
    outcome = given.get("commit_outcome", True)
    is_asked = outcome == "always" or (outcome and given.get("transactions") != "stock")
    if given.get("replay_requests") == "all" and not is_asked:
        path = f"{alias.path}['OPTIONS']['persist']"
        yield checks.Warning(
            f"{path}['replay_requests'] = 'all' runs no request again whose COMMIT was lost, as nobody asks "
            "the server whether it was carried out.",
            hint=f"{path}['commit_outcome'] = 'always'",
            id="wsgi_persist.W017",
        )


CHECKS = (_autocommit, _outcome)
