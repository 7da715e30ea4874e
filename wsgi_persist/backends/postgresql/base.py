"""``ENGINE = "wsgi_persist.backends.postgresql"``."""

from django.db.backends.postgresql import base

from wsgi_persist.backends.checks import PersistValidation, register
from wsgi_persist.backends.mixin import PersistMixin

register()


class DatabaseWrapper(PersistMixin, base.DatabaseWrapper):
    """Django's PostgreSQL backend, whose connection is pinned inside a request."""

    validation_class = PersistValidation
