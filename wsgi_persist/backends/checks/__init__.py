"""System checks: what of the settings, the server and the deployment does not fit the pins."""

from wsgi_persist.backends.checks.server import PersistValidation
from wsgi_persist.backends.checks.settings import register

__all__ = ["PersistValidation", "register"]
