"""DATABASES of a site behind PgBouncer in transaction mode, for its settings."""

import os

DATABASES = {
    "default": {
        "ENGINE": "wsgi_persist.backends.postgresql",
        "NAME": "mysite",
        "USER": "mysite",
        "PASSWORD": os.environ.get("PGPASSWORD", ""),
        "HOST": "10.0.0.5",
        "PORT": 6432,
        # A cursor that outlives its statement would find another session.
        "DISABLE_SERVER_SIDE_CURSORS": True,
        "OPTIONS": {"persist": {"pooler": "transaction"}},
    }
}
