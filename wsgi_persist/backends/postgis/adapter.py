"""Django's, for tools that look for it beside the engine."""

from django.contrib.gis.db.backends.postgis.adapter import *
