import os

from django.core.wsgi import get_wsgi_application

from wsgi_persist import PersistMiddleware

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.site.settings")
application = get_wsgi_application()
if os.environ.get("SITE_MIDDLEWARE") != "none":
    application = PersistMiddleware(application)
