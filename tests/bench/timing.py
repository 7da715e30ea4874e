"""What a piece of code costs beyond another, on a machine whose speed drifts.

Counted is the thread's processor time: neither the wait for a server nor the work of others is in it.
"""

from __future__ import annotations

import gc
import itertools
import sys
import time
from collections.abc import Callable
from statistics import median

Work = Callable[[], object]


def nothing() -> None:
    pass


def cost(work: Work, beyond: Work = nothing, *, pairs: int, times: int = 500) -> float:
    """Microseconds of *work* beyond *beyond*: the median over so many pairs of loops, in turn."""
    _loop(work, times)
    gc.disable()  # a collection falls on whichever happens to run
    try:
        found = [_loop(work, times) - _loop(beyond, times) for _ in range(pairs)]
    finally:
        gc.enable()
    return median(found) * 1e6


def microseconds(work: Work, times: int) -> float:
    """Of each of so many times that *work* does the same."""
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) / times * 1e6


def calls(work: Work) -> int:
    """Of functions, Python's and C's, that *work* makes: the one cost that no machine changes."""
    made = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal made
        made += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return made


def _loop(work: Work, times: int) -> float:
    started = time.thread_time()
    for _ in itertools.repeat(None, times):
        work()
    return (time.thread_time() - started) / times
