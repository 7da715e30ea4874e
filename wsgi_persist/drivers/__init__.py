"""psycopg2 and psycopg 3: the few places where they differ, and cursors that tell what they send."""

from wsgi_persist.drivers.base import ACTIVE, IDLE, IN_ERROR, IN_TRANSACTION, UNKNOWN, Driver
from wsgi_persist.drivers.classes import watchable
from wsgi_persist.drivers.connections import below, driver_of, neutralise, quietly_close
from wsgi_persist.drivers.cursors import Ears, telling
from wsgi_persist.drivers.errors import (
    comes_from_loss,
    driver_error,
    first_line,
    has_ended,
    has_position,
    is_farewell,
    plain_class,
    refuses_login,
    speaks_of_loss,
    sqlstate,
)
from wsgi_persist.drivers.waiting import line_of

__all__ = [
    "ACTIVE",
    "IDLE",
    "IN_ERROR",
    "IN_TRANSACTION",
    "UNKNOWN",
    "Driver",
    "Ears",
    "below",
    "comes_from_loss",
    "driver_error",
    "driver_of",
    "first_line",
    "has_ended",
    "has_position",
    "is_farewell",
    "line_of",
    "neutralise",
    "plain_class",
    "quietly_close",
    "refuses_login",
    "speaks_of_loss",
    "sqlstate",
    "telling",
    "watchable",
]
