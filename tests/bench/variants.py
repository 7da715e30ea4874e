"""What a user would pick: wsgi_persist, Django's own ways, third parties', a pooler, two old ideas."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from tools.machine import SEARCH

STOCK = "django.db.backends.postgresql"
SHIM = "wsgi_persist.backends.postgresql"
NONE = {"CONN_MAX_AGE": None}
CHECKED = {**NONE, "CONN_HEALTH_CHECKS": True}
BOTH = ("psycopg", "psycopg2")


@dataclass(frozen=True)
class Variant:
    """A way to reach the database.

    :ivar database: entries of Django's ``DATABASES``.
    :ivar options: its ``OPTIONS``; ``persist`` among them puts the middleware before the site.
    :ivar settings: further settings of Django.
    :ivar validates: whether a connection is proven alive before a request uses it.
    :ivar package: what has to be installed for it.
    :ivar drivers: those that it works with.
    """

    key: str
    name: str
    engine: str = STOCK
    database: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    validates: bool = False
    package: str = ""
    drivers: tuple[str, ...] = BOTH
    pooler: bool = False

    @property
    def persist(self) -> Mapping[str, Any] | None:
        """Our options, as the fault tests' variants have them; None where it is not ours."""
        return self.options.get("persist")

    @property
    def environment(self) -> dict[str, str]:
        """What the tests' site reads."""
        return {
            "SITE_ENGINE": self.engine,
            "SITE_DATABASE": json.dumps({"ATOMIC_REQUESTS": True, **self.database}),
            "SITE_OPTIONS": json.dumps(dict(self.options)),
            "SITE_SETTINGS": json.dumps(dict(self.settings)),
            "SITE_MIDDLEWARE": "persist" if "persist" in self.options else "none",
        }

    def given(self, options: Mapping[str, Any] | None = None, **database: Any) -> Variant:
        """The same with further options and entries of ``DATABASES``."""
        merged = {**self.options, **(options or {})}
        return replace(self, options=merged, database={**self.database, **database})

    def missing(self) -> str | None:
        """Why it cannot be run here."""
        if self.pooler and shutil.which("pgbouncer", path=SEARCH) is None:
            return "PgBouncer is not on this machine"
        if self.package and _version(self.package) is None:
            return f"{self.package} could not be installed beside Django {version('Django')}"
        return None

    @property
    def release(self) -> str:
        """The version of its package, if it is one's."""
        return f"{self.package} {_version(self.package)}" if self.package and not self.missing() else ""


@cache
def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


_OLD = "tests.bench.backends"
_RECONNECT = "django_postgresql_reconnect"
_ALL = [
    Variant("ours", "wsgi_persist", SHIM, options={"persist": {}}, validates=True),
    Variant(
        "ours-thread",
        "wsgi_persist, scope thread",
        SHIM,
        options={"persist": {"scope": "thread"}},
        validates=True,
    ),
    Variant("stock", "CONN_MAX_AGE=0", validates=True),
    Variant("kept", "CONN_MAX_AGE=None, unchecked", database=NONE),
    Variant("checked", "CONN_HEALTH_CHECKS", database=CHECKED, validates=True),
    Variant("pool", "Django's pool", options={"pool": True}, drivers=("psycopg",)),
    Variant(
        "pool-checked",
        "Django's pool, CONN_HEALTH_CHECKS",
        database={"CONN_HEALTH_CHECKS": True},
        options={"pool": True},
        drivers=("psycopg",),
        validates=True,
    ),
    Variant(
        "connection-pool",
        "django-db-connection-pool",
        "dj_db_conn_pool.backends.postgresql",
        settings={"INSTALLED_APPS": ["dj_db_conn_pool"]},
        package="django-db-connection-pool",
        validates=True,
    ),
    Variant(
        "retry",
        "django-dbconn-retry",
        database=NONE,
        settings={"INSTALLED_APPS": ["django_dbconn_retry"]},
        package="django-dbconn-retry",
    ),
    Variant(
        "reconnect",
        "django-postgresql-reconnect",
        f"{_RECONNECT}.backend",
        database={**NONE, "RECONNECT": True},
        settings={"MIDDLEWARE": [f"{_RECONNECT}.middleware.check_pgsql_connections_middleware"]},
        package="django-postgresql-reconnect",
        drivers=("psycopg2",),
        validates=True,
    ),
    Variant(
        "pgbouncer",
        "PgBouncer beside CONN_MAX_AGE=0",
        database={"DISABLE_SERVER_SIDE_CURSORS": True},
        pooler=True,
        validates=True,
    ),
    Variant("global", "process global, SELECT 1", f"{_OLD}.process_global", validates=True),
    Variant("local", "thread local, SELECT 1", f"{_OLD}.thread_local", validates=True),
]
VARIANTS = {variant.key: variant for variant in _ALL}
OURS = VARIANTS["ours"]


def of_driver(driver: str) -> list[str]:
    """The keys of all that work with it."""
    return [variant.key for variant in _ALL if driver in variant.drivers]
