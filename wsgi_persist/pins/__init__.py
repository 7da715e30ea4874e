"""One connection that is kept: its states, whether it is alive, and a session as good as new."""

from wsgi_persist.pins.greeting import STARTED, Backend, Server
from wsgi_persist.pins.liveness import Watch
from wsgi_persist.pins.pg_catalog import OURS
from wsgi_persist.pins.pin import PinnedConnection
from wsgi_persist.pins.session import Session
from wsgi_persist.pins.silence import knock, silent_for
from wsgi_persist.pins.state import CLOSED, LOST, Claim, Holder, Standing, State
from wsgi_persist.pins.transaction import Transaction

__all__ = [
    "CLOSED",
    "LOST",
    "OURS",
    "STARTED",
    "Backend",
    "Claim",
    "Holder",
    "PinnedConnection",
    "Server",
    "Session",
    "Standing",
    "State",
    "Transaction",
    "Watch",
    "knock",
    "silent_for",
]
