"""A small Django site for the tests; what varies comes from the environment."""

import json
import os
import sys
from typing import Any

if os.environ.get("SITE_DRIVER") == "psycopg2":
    # Django takes psycopg 3 where both are installed.
    sys.modules["psycopg"] = None  # type: ignore[assignment]


def database(name: str = "site", **given: Any) -> dict[str, Any]:
    return {
        "ENGINE": os.environ.get("SITE_ENGINE", "wsgi_persist.backends.postgresql"),
        "NAME": name,
        "USER": "postgres",
        "HOST": os.environ["SITE_HOST"],
        "PORT": os.environ["SITE_PORT"],
        "OPTIONS": json.loads(os.environ.get("SITE_OPTIONS", "{}")),
        **json.loads(os.environ.get("SITE_DATABASE", "{}")),
        **given,
    }


DATABASES = {"default": database()}
for alias, changes in json.loads(os.environ.get("SITE_ALIASES", "{}")).items():
    DATABASES[alias] = database(**changes)

ROOT_URLCONF = "tests.site.urls"
WSGI_APPLICATION = "tests.site.wsgi.application"
ALLOWED_HOSTS = ["*"]
SECRET_KEY = "only for tests"
USE_TZ = True
INSTALLED_APPS: list[str] = []
MIDDLEWARE: list[str] = []
DEBUG_PROPAGATE_EXCEPTIONS = False
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(levelname)s %(name)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "loggers": {"wsgi_persist": {"handlers": ["stderr"], "level": "DEBUG", "propagate": True}},
}
globals().update(json.loads(os.environ.get("SITE_SETTINGS", "{}")))
