"""All workers of a host on one page, and for Prometheus: a WSGI application in a process of its own."""

from wsgi_persist.status.page.wsgi import StatusPage, application

__all__ = ["StatusPage", "application"]
