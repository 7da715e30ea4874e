"""A Django alias's settings as a policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from wsgi_persist.policy import Policy


def policy_of(alias: str, settings: Mapping[str, Any]) -> Policy:
    """The policy in ``OPTIONS["persist"]``; a CONN_MAX_AGE above 0 serves where max_age is not given.

    :raises ImproperlyConfigured: names the alias, the option, its value and what is allowed.
    """
    options = settings.get("OPTIONS") or {}
    if options.get("pool"):
        raise ImproperlyConfigured(
            f"DATABASES[{alias!r}]: OPTIONS['pool'] cannot stand beside wsgi_persist, which keeps "
            f"one connection: remove 'pool', or use ENGINE 'django.db.backends.postgresql'"
        )
    given = options.get("persist", {})
    age = settings.get("CONN_MAX_AGE")
    try:
        if age and isinstance(given, Mapping):
            given = {"max_age": age, **given}
        return Policy.from_mapping(given)
    except (TypeError, ValueError) as error:
        raise ImproperlyConfigured(f"DATABASES[{alias!r}]['OPTIONS']['persist']: {error}") from error
