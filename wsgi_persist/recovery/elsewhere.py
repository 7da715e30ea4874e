"""What the application says of its effects that no database knows of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from inspect import iscoroutinefunction
from typing import ParamSpec, TypeVar

from wsgi_persist.worker import current

P = ParamSpec("P")
R = TypeVar("R")


def has_effects() -> None:
    """From now on the present request is not run again."""
    scope = current()
    if scope is not None:
        scope.wrote = True


@contextmanager
def no_replay() -> Iterator[None]:
    """Within it nothing is sent again, for statements whose effects their text does not show.

    The request as a whole is not run again after it, either. Outside a request it does nothing.
    """
    scope = current()
    if scope is None:
        yield
        return
    scope.wrote = True
    scope.no_replay += 1
    try:
        yield
    finally:
        scope.no_replay -= 1
        scope.suspect()  # a COMMIT may be still to come


def never_replayed(view: Callable[P, R]) -> Callable[P, R]:
    """A decorator for a view that has effects elsewhere: once it was called, its request is not run again.

    Its statements are sent again as those of any other. Outside a request it does nothing.

    :raises TypeError: the view is a coroutine function, which runs on a thread that is in no request.
    """
    # Before Python 3.12 this mark is all that Django's classes of such views have.
    if iscoroutinefunction(view) or hasattr(view, "_is_coroutine"):
        raise TypeError(
            f"{view!r} is a coroutine function: use no_replay() in what it calls by sync_to_async()"
        )

    @wraps(view)
    def marked(*args: P.args, **kwargs: P.kwargs) -> R:
        has_effects()
        return view(*args, **kwargs)

    return marked
