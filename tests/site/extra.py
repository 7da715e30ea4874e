"""A view for one test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


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
