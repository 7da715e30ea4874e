"""``wsgi-persist apache``: looks at a site from outside, and prints the Apache file for it."""

from wsgi_persist.command.apache import add_to as add_apache
from wsgi_persist.command.refusal import Parser, Refused

__all__ = ["Parser", "Refused", "add_apache"]
