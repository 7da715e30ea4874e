"""Connections of either driver: whose they are, closing one, leaving one to the parent process."""

from __future__ import annotations

import logging
import os
from typing import Any

from wsgi_persist.drivers.base import Driver
from wsgi_persist.drivers.psycopg2 import Psycopg2
from wsgi_persist.drivers.psycopg3 import Psycopg3

logger = logging.getLogger("wsgi_persist.drivers")

_DRIVERS: dict[str, Driver] = {"psycopg2": Psycopg2(), "psycopg": Psycopg3()}


def driver_of(connection: Any) -> Driver:
    """The driver whose connection this is, also below a proxy or a subclass.

    :raises TypeError: it is no connection of psycopg2 or psycopg 3.
    """
    # __class__ rather than type(): tracing tools wrap connections in transparent proxies.
    for base in connection.__class__.__mro__:
        driver = _DRIVERS.get(base.__module__.partition(".")[0])
        if driver is not None and not base.__name__.startswith("Async"):
            return driver
    raise TypeError(
        # Its type alone: it may be a connection string with a password.
        f"a {type(connection).__name__} is not a connection of a known driver: "
        f"a pin's connect function returns one of psycopg2 or psycopg (3, not async)"
    )


def below(connection: Any) -> Any:
    """The driver's own object, of one that a tracing tool may have put into a transparent proxy."""
    # A proxy hands out the methods of what it stands for, whatever name it keeps that under.
    return getattr(connection.fileno, "__self__", connection)


def quietly_close(connection: Any, name: str) -> None:
    """Close a connection that may be broken already; a failure is logged, nothing more can be done."""
    try:
        connection.close()
    except Exception as error:
        logger.debug("pin %r: closing failed: %s", name, error)


def neutralise(fd: int) -> None:
    """Put /dev/null under a socket that the parent uses: nothing the child sends reaches the server."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, fd, inheritable=False)
    os.close(null)
