"""One pinned database connection per WSGI worker."""

from wsgi_persist.errors import (
    LeakedStateError,
    NotInRequestError,
    PersistError,
    ScopeError,
    TransactionError,
)
from wsgi_persist.plain import Pin
from wsgi_persist.policy import Policy
from wsgi_persist.recovery import never_replayed, no_replay
from wsgi_persist.redaction import redact_log
from wsgi_persist.version import __version__
from wsgi_persist.wsgi import PersistMiddleware

__all__ = [
    "LeakedStateError",
    "NotInRequestError",
    "PersistError",
    "PersistMiddleware",
    "Pin",
    "Policy",
    "ScopeError",
    "TransactionError",
    "__version__",
    "never_replayed",
    "no_replay",
]

redact_log()
