"""System checks: what of the settings, the server and the deployment does not fit the pins."""

from wsgi_persist.backends.checks.settings import register
from wsgi_persist.backends.checks.validation import PersistValidation

__all__ = ["PersistValidation", "register"]
