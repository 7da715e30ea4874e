"""Django's, for tools that look for it beside the engine."""

from django.db.backends.postgresql.client import *
