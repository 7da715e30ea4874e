"""Settings of the demonstration site; what differs between two runs comes from the environment."""

import os
import secrets
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent

# Without a given key each process makes up its own: enough for pages that sign nothing.
SECRET_KEY = os.environ.get("DEMO_SECRET_KEY") or secrets.token_urlsafe(50)
DEBUG = False
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]

INSTALLED_APPS = ["guestbook"]
MIDDLEWARE = [
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
]
ROOT_URLCONF = "demosite.urls"
WSGI_APPLICATION = "demosite.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    }
]

DATABASES = {
    "default": {
        # django.db.backends.postgresql is what to compare with.
        "ENGINE": os.environ.get("DEMO_ENGINE", "wsgi_persist.backends.postgresql"),
        "NAME": os.environ.get("DEMO_DB_NAME", "demo"),
        # A host name, or the folder of the server's Unix socket.
        "HOST": os.environ.get("DEMO_DB_HOST", "127.0.0.1"),
        "PORT": os.environ.get("DEMO_DB_PORT", "5432"),
        "USER": os.environ.get("DEMO_DB_USER", "postgres"),
        "PASSWORD": os.environ.get("DEMO_DB_PASSWORD", ""),
        "CONN_MAX_AGE": int(os.environ.get("DEMO_CONN_MAX_AGE", "0")),
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

USE_TZ = True
TIME_ZONE = "UTC"
