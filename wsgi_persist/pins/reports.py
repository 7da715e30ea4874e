"""What was reported lately to be left, so that the log names each text once."""

from __future__ import annotations

from wsgi_persist.sql import Recent, normalized

_reported: Recent[str, bool] = Recent(1000)


def was_reported(what: str | bytes) -> bool:
    """Whether anything like it, but for comments and literals, was reported by this process lately."""
    return bool(_reported.find(_form(what)))


def is_news(what: str | bytes) -> bool:
    """Whether it was not, and is now."""
    if was_reported(what):
        return False
    _reported.keep(_form(what), True)
    return True


def _form(what: str | bytes) -> str:
    return normalized(what if isinstance(what, str) else what.decode(errors="replace"))
