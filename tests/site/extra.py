"""A view, and an alias, for one test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from wsgi_persist.worker import registry


class extra_view:
    """A view of the test's own at ``/extra/``."""

    def __init__(self, view: Callable[[Any], Any]) -> None:
        from django.urls import path

        self._pattern = path("extra/", view)

    def __enter__(self) -> None:
        self._change("append")

    def __exit__(self, *exception: object) -> None:
        self._change("remove")

    def _change(self, how: str) -> None:
        from django.urls import clear_url_caches

        from tests.site.urls import urlpatterns

        getattr(urlpatterns, how)(self._pattern)
        clear_url_caches()


@contextmanager
def extra_alias(name: str, **settings: Any) -> Iterator[Callable[..., None]]:
    """An alias as the default one but for these, if they are given; else it is not there until it is defined,
    as a middleware that starts looks at all that are."""
    from django.db import connections

    from wsgi_persist.backends import opening

    def define(**given: Any) -> None:
        connections.settings[name] = {**connections.settings["default"], **given}

    if settings:
        define(**settings)
    try:
        yield define
    finally:
        connections[name].close()
        registry.process_scope().pins.pop(name, None)
        opening._servers.pop(name, None)
        del connections[name], connections.settings[name]
