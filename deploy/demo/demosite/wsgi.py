"""What mod_wsgi loads."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demosite.settings")

application = get_wsgi_application()

# A site of your own wraps without asking; this one also runs on the stock engine, to compare.
if not os.environ.get("DEMO_ENGINE", "").startswith("django."):
    from wsgi_persist import PersistMiddleware

    application = PersistMiddleware(application)
