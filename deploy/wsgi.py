"""A Django site's WSGI script: Django's own, wrapped once."""

import os

from django.core.wsgi import get_wsgi_application

from wsgi_persist import PersistMiddleware

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")

application = PersistMiddleware(get_wsgi_application())
