"""Driver objects that tell what is done with them: statements, and what they are registered with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wsgi_persist.drivers.folding import Opening, folding
from wsgi_persist.sql import QUIET

Hear = Callable[[Any], None]

# Methods of either driver whose first argument is the statement.
_SENDING = ("execute", "executemany", "copy_expert", "copy", "stream")


class Ears:
    """Where cursors tell what they do.

    :ivar seen: verdicts on statements by their text, of those that were judged lately.
    :ivar judge: the verdict on any text; a read that leaves nothing is not told.
    :ivar tell: gets every other statement before it is sent, and the verdict if there is one.
    :ivar hold: gets every server-side cursor that is opened.
    :ivar failed: gets what sending a statement raised.
    :ivar transaction: what cursors send in front of a statement, if they may.
    """

    def __init__(
        self,
        seen: Callable[[str], Any],
        judge: Callable[[str], Any],
        tell: Callable[..., None],
        hold: Hear,
        failed: Hear,
        transaction: Opening | None = None,
    ) -> None:
        self.seen = seen
        self.judge = judge
        self.tell = tell
        self.hold = hold
        self.failed = failed
        self.transaction = transaction


def telling(base: type, ears: Ears) -> type:
    """A subclass of a driver's cursor class that tells what it sends."""
    if ears.transaction is not None:
        base = folding(base, ears.transaction)
    methods: dict[str, Any] = {}
    for name in _SENDING:
        if hasattr(base, name):
            methods[name] = _telling(getattr(base, name), ears, named=hasattr(base, "name"))
    if hasattr(base, "callproc"):
        methods["callproc"] = _telling_call(base.callproc, ears.tell)
    if hasattr(base, "copy_from"):
        methods["copy_from"] = _telling_copy(base.copy_from, ears.tell)
    return type(base.__name__, (base,), {**methods, "__module__": base.__module__, "tells": True})


def _telling(send: Callable[..., Any], ears: Ears, named: bool) -> Callable[..., Any]:
    seen, judge, tell, hold, failed = ears.seen, ears.judge, ears.tell, ears.hold, ears.failed

    def method(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        # Composed statements of the drivers are no str, nor can they be looked up.
        verdict = seen(query) or judge(query) if query.__class__ is str else None
        if verdict is not QUIET:
            tell(query, verdict)
        if named and self.name is not None:
            hold(self)
        try:
            return send(self, query, *args, **kwargs)
        except BaseException as error:
            failed(error)
            raise

    return method


def _telling_call(send: Callable[..., Any], tell: Callable[..., None]) -> Callable[..., Any]:
    def method(self: Any, name: Any, *args: Any, **kwargs: Any) -> Any:
        tell(f"SELECT {name}()")
        return send(self, name, *args, **kwargs)

    return method


def _telling_copy(send: Callable[..., Any], tell: Callable[..., None]) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        tell("COPY FROM STDIN")  # psycopg2 makes the text itself
        return send(self, *args, **kwargs)

    return method


def telling_registration(adapters: Any, tell: Callable[[str], None]) -> None:
    """Have a connection's adapters (psycopg 3) tell for what type one is registered with them."""
    for name in ("register_loader", "register_dumper"):
        setattr(adapters, name, _telling_type(getattr(adapters, name), tell))


def _telling_type(register: Callable[..., Any], tell: Callable[[str], None]) -> Callable[..., Any]:
    def method(*args: Any, **kwargs: Any) -> Any:
        kind = [*args, *kwargs.values()][0]
        tell(getattr(kind, "__name__", str(kind)))
        return register(*args, **kwargs)

    return method
