"""For an application without Django: the handle by which it uses its pin."""

from wsgi_persist.plain.pin import Pin

__all__ = ["Pin"]
