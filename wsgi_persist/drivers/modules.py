"""The drivers' modules, which are imported by whoever has a connection of theirs."""

from __future__ import annotations

import sys
from typing import Any


def extensions() -> Any:
    """psycopg2's module of driver classes."""
    return sys.modules["psycopg2.extensions"]


def psycopg() -> Any:
    return sys.modules["psycopg"]
