"""An exception from outside, at one bytecode after the other."""

from __future__ import annotations

import sys
from typing import Any


class Interrupted(BaseException):
    pass


class Interruption:
    """Raises once, at the bytecode *at* of those that run in *places*, the ends of files' names.

    :ivar came: the function and line where it did.
    """

    def __init__(self, at: int, places: tuple[str, ...]) -> None:
        self.left = at
        self.came: tuple[str, int] | None = None
        self._places = places

    def __enter__(self) -> None:
        self._before = sys.gettrace()
        sys.settrace(self._called)

    def __exit__(self, *exception: object) -> None:
        sys.settrace(self._before)

    def _called(self, frame: Any, event: str, arg: Any) -> Any:
        if not frame.f_code.co_filename.endswith(self._places):
            return None
        frame.f_trace = self._stepped  # first: without it Python 3.13 takes no notice of the next
        frame.f_trace_opcodes = True
        return self._stepped

    def _stepped(self, frame: Any, event: str, arg: Any) -> Any:
        if event == "opcode" and self.came is None:
            self.left -= self._counts(frame)
            if self.left < 0:
                self.came = frame.f_code.co_name, frame.f_lineno
                raise Interrupted
        return self._stepped

    def _counts(self, frame: Any) -> bool:
        """Whether it may come before the bytecode that is next."""
        return True
