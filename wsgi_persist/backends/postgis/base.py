"""``ENGINE = "wsgi_persist.backends.postgis"``."""

from django.contrib.gis.db.backends.postgis import base

from wsgi_persist.backends.checks import PersistValidation, register
from wsgi_persist.backends.mixin import PersistMixin

register()


class DatabaseWrapper(PersistMixin, base.DatabaseWrapper):
    """Django's PostGIS backend, whose connection is pinned inside a request."""

    validation_class = PersistValidation
