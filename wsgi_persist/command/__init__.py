"""``wsgi-persist``: looks at sites from outside; prints the Apache file for one, or what the workers do."""

from wsgi_persist.command.apache import add_to as add_apache
from wsgi_persist.command.refusal import Parser, Refused
from wsgi_persist.command.status import add_to as add_status

__all__ = ["Parser", "Refused", "add_apache", "add_status"]
