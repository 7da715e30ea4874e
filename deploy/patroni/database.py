"""DATABASES of a site on a cluster, for its settings: libpq finds the leader among the hosts."""

import os

DATABASES = {
    "default": {
        "ENGINE": "wsgi_persist.backends.postgresql",
        "NAME": "mysite",
        "USER": "mysite",
        "PASSWORD": os.environ.get("PGPASSWORD", ""),
        # Behind HAProxy: its address alone, and no target_session_attrs.
        "HOST": "db1.example.org,db2.example.org,db3.example.org",
        "OPTIONS": {
            "target_session_attrs": "read-write",
            # A switchover takes a few seconds, which visitors then wait.
            "persist": {"reconnect_deadline": 10.0},
        },
    }
}
