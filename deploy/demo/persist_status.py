"""The page of the demonstration's workers, with PostgreSQL's own account beside them."""

import os

import psycopg2

from wsgi_persist.status import StatusPage


def connect():
    return psycopg2.connect(
        dbname=os.environ["DEMO_DB_NAME"],
        host=os.environ["DEMO_DB_HOST"],
        port=os.environ["DEMO_DB_PORT"],
        user=os.environ.get("DEMO_DB_USER", "postgres"),
        password=os.environ.get("DEMO_DB_PASSWORD", ""),
        application_name="persist-status",
        connect_timeout=2,
    )


application = StatusPage(os.environ["DEMO_STATUS"], connect=connect)
application.start()
