"""A Django alias's settings as a policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from wsgi_persist.backends.signals import watch_strangers
from wsgi_persist.policy import Policy
from wsgi_persist.redaction import redacted


def policy_of(alias: str, settings: Mapping[str, Any]) -> Policy:
    """The policy in ``OPTIONS["persist"]``. Where they are not given, a CONN_MAX_AGE above 0 serves for
    max_age, and DISABLE_SERVER_SIDE_CURSORS means a pooler in transaction mode.

    :raises ImproperlyConfigured: names the alias, the option, its value and what is allowed.
    """
    options = settings.get("OPTIONS") or {}
    if not isinstance(options, Mapping):
        raise ImproperlyConfigured(
            f"DATABASES[{alias!r}]['OPTIONS']={redacted(repr(options))} is not allowed: give a dictionary"
        )
    # A wrapper under a name of its own (a copy in a test) never meets a pin: it is the stock one.
    if options.get("pool") and alias in connections.settings:
        raise ImproperlyConfigured(
            f"DATABASES[{alias!r}]: OPTIONS['pool'] cannot stand beside wsgi_persist, which keeps "
            f"one connection: remove 'pool', or use ENGINE 'django.db.backends.postgresql'"
        )
    given = options.get("persist", {})
    try:
        if isinstance(given, Mapping):
            given = {**_implied(settings), **given}
        policy = Policy.from_mapping(given)
    except (TypeError, ValueError) as error:
        raise ImproperlyConfigured(f"DATABASES[{alias!r}]['OPTIONS']['persist']: {error}") from error
    if policy.replay_requests:
        watch_strangers()
    return policy


def where_to(settings: Mapping[str, Any]) -> tuple[str, str]:
    """The setting that names the host, or hosts, as it is written behind the alias; and what it says."""
    host = settings.get("HOST") or ""
    if not host and (given := (settings.get("OPTIONS") or {}).get("host")):
        return "['OPTIONS']['host']", str(given)
    return "['HOST']", str(host)


def _implied(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What Django's own settings say where the options do not."""
    implied: dict[str, Any] = {}
    if age := settings.get("CONN_MAX_AGE"):
        implied["max_age"] = age
    if settings.get("DISABLE_SERVER_SIDE_CURSORS"):
        # Django's documented setting for a pooler in transaction mode.
        implied["pooler"] = "transaction"
    return implied
