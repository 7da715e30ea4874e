"""Driver objects that tell what is done with them: statements, and what they are registered with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Tell = Callable[[Any], None]

# Methods of either driver whose first argument is the statement.
_SENDING = ("execute", "executemany", "copy_expert", "copy", "stream")


def telling(base: type, tell: Tell, hold: Tell) -> type:
    """A subclass of a driver's cursor class that hands every statement to *tell* before it is sent,
    and itself to *hold* if it is a server-side cursor."""
    sending = [name for name in _SENDING if hasattr(base, name)]
    methods: dict[str, Any] = {name: _telling(getattr(base, name), tell, None) for name in sending}
    if hasattr(base, "name"):
        methods["execute"] = _telling(base.execute, tell, hold)  # type: ignore[attr-defined]
    if hasattr(base, "callproc"):
        methods["callproc"] = _telling_call(base.callproc, tell)
    return type(base.__name__, (base,), {**methods, "__module__": base.__module__, "tells": True})


def _telling(send: Callable[..., Any], tell: Tell, hold: Tell | None) -> Callable[..., Any]:
    def method(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        tell(query)
        return send(self, query, *args, **kwargs)

    def method_of_named(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        tell(query)
        if hold is not None and self.name is not None:
            hold(self)
        return send(self, query, *args, **kwargs)

    return method if hold is None else method_of_named


def _telling_call(send: Callable[..., Any], tell: Tell) -> Callable[..., Any]:
    def method(self: Any, name: Any, *args: Any, **kwargs: Any) -> Any:
        tell(f"SELECT {name}()")
        return send(self, name, *args, **kwargs)

    return method


def telling_registration(adapters: Any, tell: Callable[[], None]) -> None:
    """Have a connection's adapters (psycopg 3) say when something is registered with them."""
    for name in ("register_loader", "register_dumper"):
        setattr(adapters, name, _saying(getattr(adapters, name), tell))


def _saying(register: Callable[..., Any], tell: Callable[[], None]) -> Callable[..., Any]:
    def method(*args: Any, **kwargs: Any) -> Any:
        tell()
        return register(*args, **kwargs)

    return method
