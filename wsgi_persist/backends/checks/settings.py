"""System checks that read the settings alone.

Django runs what is registered before it begins, and so before it loads the ENGINE of an alias that no
model needed; but it loads that of each ``--database``, and asks its ``validation``. So
:mod:`wsgi_persist.backends.checks.server` tells of an alias's settings where nobody else does. In which
order Django asks the two is chance, and from 6.1 on it no longer says which aliases were named.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

import django
from django.core import checks

from wsgi_persist.backends.checks import again, route
from wsgi_persist.backends.checks.aliases import Alias, ours
from wsgi_persist.backends.checks.deployment import check_libraries, check_middleware
from wsgi_persist.backends.checks.redaction import without_passwords
from wsgi_persist.backends.checks.workers import announced, unreadable
from wsgi_persist.policy import Policy
from wsgi_persist.version import OLDEST_DJANGO

TAG = "wsgi_persist"
OLDEST = "{}.{}".format(*OLDEST_DJANGO)


def register() -> None:
    """Django keeps them in sets: once more changes nothing."""
    for check in (check_aliases, check_environment, check_django):
        checks.register(check, TAG)
    for check in (check_middleware, check_libraries):
        checks.register(check, TAG, deploy=True)


@without_passwords
def check_aliases(app_configs: Sequence[Any] | None = None, **kwargs: Any) -> list[checks.CheckMessage]:
    global _runs
    _runs = True
    told = _told.copy()
    _told.clear()
    found = [message for alias in ours() if alias.name not in told for message in of_alias(alias)]
    return [*found, *_more_than_are_kept()]


_told: set[str] = set()  # aliases of which their validation told in this run
_runs = False  # check_aliases() does in this process


def of_alias_alone(alias: Alias) -> list[checks.CheckMessage]:
    """For its validation: nothing where :func:`check_aliases` tells it."""
    if _runs:
        return []
    _told.add(alias.name)
    return of_alias(alias)


def of_alias(alias: Alias) -> list[checks.CheckMessage]:
    every = (_wrong_options, _pool, _scope, _age, _health_checks, _lazy, *again.CHECKS, *route.CHECKS)
    return [message for check in every for message in check(alias)]


# ##### What is given #####


def _wrong_options(alias: Alias) -> Iterator[checks.CheckMessage]:
    """Each one on its own, as the wrapper stops at the first."""
    given = alias.options.get("persist", {})
    path = f"{alias.path}['OPTIONS']['persist']"
    if error := _refused(given if given is not alias.persist else {}):
        yield checks.Error(f"{path}: {error}", hint=f"{path} = {{}}", id="wsgi_persist.E001")
    defaults = {field.name: field.default for field in fields(Policy)}
    for key, value in alias.persist.items():
        if error := _refused({key: value}):
            known = key in defaults
            hint = f"{path}[{key!r}] = {defaults[key]!r}" if known else f"del {path}[{key!r}]"
            yield checks.Error(f"{path}: {error}", hint=hint, id="wsgi_persist.E001")
    age = alias.settings.get("CONN_MAX_AGE")
    if age and "max_age" not in alias.persist and (error := _refused({"max_age": age})):
        path = f"{alias.path}['CONN_MAX_AGE']"
        yield checks.Error(
            f"{path}, which serves as max_age: {error}", hint=f"{path} = 0", id="wsgi_persist.E001"
        )


def _refused(given: Any) -> str | None:
    try:
        Policy.from_mapping(given)
    except (TypeError, ValueError) as error:
        return str(error)
    return None


def _pool(alias: Alias) -> Iterator[checks.CheckMessage]:
    if alias.options.get("pool"):
        path = f"{alias.path}['OPTIONS']['pool']"
        yield checks.Error(
            f"{path} cannot stand beside wsgi_persist, which keeps one connection.",
            hint=f"del {path}",
            id="wsgi_persist.E002",
        )


def _scope(alias: Alias) -> Iterator[checks.CheckMessage]:
    threads = announced().threads or 1
    if threads > 1 and alias.persist.get("scope") == "process":
        path = f"{alias.path}['OPTIONS']['persist']['scope']"
        yield checks.Error(
            f"{path} = 'process' keeps one connection for requests that come one at a time, "
            f"but the server has {threads} threads and every request would be refused.",
            hint=f"{path} = 'thread'",
            id="wsgi_persist.E003",
        )


@without_passwords
def check_environment(app_configs: Sequence[Any] | None = None, **kwargs: Any) -> list[checks.CheckMessage]:
    return [
        checks.Error(
            f"{name}={value!r} in the environment is not allowed: give a whole number from 1.",
            hint=f"export {name}=1",
            id="wsgi_persist.E005",
        )
        for name, value in unreadable().items()
    ]


def check_django(app_configs: Sequence[Any] | None = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """A virtual environment may take the distribution's, which is older than what pip would bring."""
    if django.VERSION[:2] >= OLDEST_DJANGO:
        return []
    return [
        checks.Error(
            f"Django {django.get_version()} is not supported by wsgi_persist: {OLDEST} or later is.",
            hint=f"pip install 'Django>={OLDEST}'",
            id="wsgi_persist.E006",
        )
    ]


# ##### What Django's own settings still mean #####


def _age(alias: Alias) -> Iterator[checks.CheckMessage]:
    age, given = alias.settings.get("CONN_MAX_AGE"), alias.persist.get("max_age", Policy.max_age)
    ignored = age and "max_age" in alias.persist and age != given
    unlimited = age is None and "max_age" not in alias.persist
    if ignored or unlimited:
        yield checks.Warning(
            f"{alias.path}['CONN_MAX_AGE'] = {age!r} means nothing within requests: "
            f"there max_age = {given!r} counts.",
            hint=f"{alias.path}['OPTIONS'].setdefault('persist', {{}})['max_age'] = {age!r}"
            if unlimited
            else f"{alias.path}['CONN_MAX_AGE'] = 0",
            id="wsgi_persist.W003",
        )


def _more_than_are_kept() -> Iterator[checks.CheckMessage]:
    aliases = ours()
    most = max((alias.policy.max_pins for alias in aliases if alias.policy is not None), default=0)
    if len(aliases) > most > 0:
        yield checks.Warning(
            f"{len(aliases)} aliases of DATABASES have our ENGINE, and {most} of their connections "
            "(max_pins) are kept: the others are opened again and again, whatever their CONN_MAX_AGE.",
            hint=f"{aliases[0].path}['OPTIONS'].setdefault('persist', {{}})['max_pins'] = {len(aliases)}",
            id="wsgi_persist.W011",
        )


def _health_checks(alias: Alias) -> Iterator[checks.CheckMessage]:
    if alias.settings.get("CONN_HEALTH_CHECKS"):
        yield checks.Warning(
            f"{alias.path}['CONN_HEALTH_CHECKS'] = True means nothing within requests: "
            "there the connection is checked anyway, without a round trip.",
            hint=f"{alias.path}['CONN_HEALTH_CHECKS'] = False",
            id="wsgi_persist.W004",
        )


def _lazy(alias: Alias) -> Iterator[checks.CheckMessage]:
    if alias.persist.get("transactions") != "lazy":
        return
    # Here, as it imports the driver.
    from django.db.backends.postgresql.psycopg_any import IsolationLevel

    above = alias.options.get("isolation_level") not in (None, IsolationLevel.READ_COMMITTED)
    if above or not alias.settings.get("AUTOCOMMIT", True):
        what = "the isolation level is above READ COMMITTED" if above else "AUTOCOMMIT is off"
        path = f"{alias.path}['OPTIONS']['persist']['transactions']"
        yield checks.Warning(
            f"{path} = 'lazy' means nothing where {what}: each transaction begins with its first statement.",
            hint=f"{path} = 'folded'",
            id="wsgi_persist.W012",
        )
