"""What the server and the application see: a request comes in, is answered, and its response is closed."""

from wsgi_persist.wsgi.middleware import PersistMiddleware

__all__ = ["PersistMiddleware"]
