"""The aliases whose ENGINE is ours, read from the settings: no wrapper is made for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from django import db
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from wsgi_persist.backends.options import policy_of, where_to
from wsgi_persist.policy import Policy
from wsgi_persist.worker import is_ours


class Alias(NamedTuple):
    """An alias and its settings."""

    name: str
    settings: Mapping[str, Any]

    @property
    def path(self) -> str:
        """As one writes it in the settings."""
        return f"DATABASES[{self.name!r}]"

    @property
    def options(self) -> Mapping[str, Any]:
        return self.settings.get("OPTIONS") or {}

    @property
    def persist(self) -> Mapping[str, Any]:
        """The options that were given; empty where they are not even a dictionary."""
        given = self.options.get("persist", {})
        return given if isinstance(given, Mapping) else {}

    @property
    def policy(self) -> Policy | None:
        """None where the options are wrong, which is a message of its own."""
        try:
            return policy_of(self.name, self.settings)
        except ImproperlyConfigured:
            return None

    @property
    def transactions_only(self) -> bool:
        """Whether it is said to be behind a pooler in transaction mode."""
        return self.policy is not None and self.policy.pooler == "transaction"

    @property
    def server(self) -> tuple[str, str]:
        return where_to(self.settings)[1], str(self.settings.get("PORT") or self.options.get("port") or "")

    @property
    def user(self) -> str:
        return str(self.settings.get("USER") or "")


def ours() -> list[Alias]:
    return [Alias(name, connections.settings[name]) for name in connections if is_ours(db, name)]


def driver_module() -> str:
    """The driver that Django takes; imported here, as a site on another database may have none."""
    from django.db.backends.postgresql.psycopg_any import is_psycopg3

    return "psycopg" if is_psycopg3 else "psycopg2"
