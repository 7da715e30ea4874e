"""The transaction under way: what Django's wrapper knows of it, and what of it is sent."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from django.db.transaction import Atomic, TransactionManagementError

from wsgi_persist.backends.signals import note_writes
from wsgi_persist.pins import PinnedConnection, Transaction

if TYPE_CHECKING:
    from django.db.backends.postgresql.base import DatabaseWrapper as Base
else:
    Base = object


class Blocks(list[Any]):
    """The atomic blocks that are open.

    One that outlived its request, as a generator's does, is none of them: it was rolled back then, and must
    not end another's when the generator is closed or collected.
    """

    def pop(self, *at: Any) -> Any:
        leaving = sys._getframe(1).f_locals  # of Atomic.__exit__(), which does not say which it is
        block = leaving.get("self")
        if block in self or not isinstance(block, Atomic):
            return super().pop(*at)
        raise leaving["exc_value"] or TransactionManagementError(
            "this atomic block was rolled back when its request ended"
        )


def come_to_rest(wrapper: Any) -> None:
    """There is none."""
    wrapper.in_atomic_block = False
    wrapper.savepoint_ids = []
    wrapper.atomic_blocks = Blocks()
    wrapper.commit_on_exit = True
    wrapper.needs_rollback = False
    wrapper.rollback_exc = None
    wrapper.closed_in_transaction = False
    wrapper.errors_occurred = False
    wrapper.run_on_commit = []
    wrapper.run_commit_hooks_on_set_autocommit_on = False


_names = SimpleNamespace()
come_to_rest(_names)


def state_of(wrapper: Any) -> dict[str, Any]:
    return {name: getattr(wrapper, name) for name in vars(_names)}


class _Taken:
    """``connection`` of a wrapper in a block. Who takes it may use it in ways that no cursor of ours sees, so
    that what waits is sent before.

    Outside of blocks the wrapper has an attribute of its own, which goes before this one: Django reads it
    about ten times in a page.
    """

    def __get__(self, wrapper: Any, owner: type) -> Any:
        if wrapper is None:
            return self
        folded = wrapper._folded
        if folded is not None and folded.is_pending() and wrapper._is_taken_by(sys._getframe(1)):
            folded.send()
        return wrapper._below


class TransactionMixin(Base):
    """A wrapper whose BEGIN and savepoints are sent with the statement that follows them.

    The hooks are Django's private ones: what is public does more, which is the same here.
    """

    connection: Any = _Taken()
    _below: Any = None  # the driver's, in a block
    _pin: PinnedConnection | None = None  # leased
    _modules: frozenset[str]  # of this class, whose ever its parts are

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._modules = frozenset(base.__module__ for base in cls.__mro__)

    @property
    def _folded(self) -> Transaction | None:
        pin = self._pin
        return None if pin is None or pin.session is None else pin.session.transaction

    def _is_taken_by(self, frame: Any) -> bool:
        """Whether it is not read by this class itself, nor by Django."""
        name = frame.f_globals.get("__name__", "")
        if name == "django.utils.connection":  # ``django.db.connection`` hands on
            name = frame.f_back.f_globals.get("__name__", "")
        return name not in self._modules and not name.startswith(("django.", "wsgi_persist."))

    def _must_send(self) -> bool:
        """Whether somebody looks at each statement, or Django refuses to send any."""
        if self.queries_logged or self.needs_rollback:
            return True
        return any(wrapper is not note_writes for wrapper in self.execute_wrappers)

    def _set_autocommit(self, autocommit: bool) -> None:
        folded = self._folded
        if folded is None or not folded.is_idle():
            super()._set_autocommit(autocommit)  # type: ignore[misc]  # missing from the stubs
        elif not autocommit:
            self._below = self.connection
            vars(self).pop("connection", None)
            folded.begin()
            if self.queries_logged:
                folded.tell_driver()
        else:
            told = folded.end()
            self.connection = self.connection  # of its own again
            if told:
                super()._set_autocommit(True)  # type: ignore[misc]

    def _savepoint(self, sid: str) -> None:
        folded = self._folded
        if folded is None or self._must_send() or not folded.mark(self.ops.quote_name(sid)):
            super()._savepoint(sid)  # type: ignore[misc]

    def _savepoint_rollback(self, sid: str) -> None:
        folded = self._folded
        if folded is None or self.needs_rollback or not folded.return_to(self.ops.quote_name(sid)):
            super()._savepoint_rollback(sid)  # type: ignore[misc]

    def _savepoint_commit(self, sid: str) -> None:
        folded = self._folded
        if folded is None or self.needs_rollback or not folded.release(self.ops.quote_name(sid)):
            super()._savepoint_commit(sid)  # type: ignore[misc]

    def _commit(self) -> None:
        super()._commit()  # type: ignore[misc]
        self._settle()

    def _rollback(self) -> None:
        super()._rollback()  # type: ignore[misc]
        self._settle()

    def _settle(self) -> None:
        folded = self._folded
        if folded is not None:
            folded.settle()
