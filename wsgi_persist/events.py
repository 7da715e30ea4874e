"""What becomes of connections and requests, told to one listener in this process, if there is one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

NEVER = float("inf")


class Listener(Protocol):
    """Hears from any thread, at any moment; what it raises would reach the application."""

    def hear(self, kind: str, pin: str, request: object, text: str, facts: dict[str, Any]) -> None:
        """Something has happened."""

    def look(self, now: float, environ: Mapping[str, Any]) -> float:
        """A request came in; when to look again, on the clock of *now*."""


_listener: Listener | None = None


def listen(listener: Listener | None) -> None:
    """From now on *listener* is told, and nobody else."""
    global _listener
    _listener = listener


def tell(kind: str, pin: str = "", request: object = "", text: str = "", **facts: Any) -> None:
    """
    :param pin: its name, where it is about one.
    :param request: whose text names the request, where it happened in one.
    :param text: what else there is to say.
    """
    if _listener is not None:
        _listener.hear(kind, pin, request, text, facts)


def look(now: float, environ: Mapping[str, Any]) -> float:
    return NEVER if _listener is None else _listener.look(now, environ)
