"""A connection was lost: wait for the database, send again what cannot repeat an effect."""

from wsgi_persist.recovery.elsewhere import has_effects, never_replayed, no_replay
from wsgi_persist.recovery.hosts import Hosts
from wsgi_persist.recovery.outage import Outage
from wsgi_persist.recovery.outcome import mark_of
from wsgi_persist.recovery.replay import MOST, Sent, recovers, survives_commit, was_replaced

__all__ = [
    "MOST",
    "Hosts",
    "Outage",
    "Sent",
    "has_effects",
    "mark_of",
    "never_replayed",
    "no_replay",
    "recovers",
    "survives_commit",
    "was_replaced",
]
