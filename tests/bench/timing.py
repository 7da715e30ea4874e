"""What a piece of code costs beyond another, on a machine whose speed drifts."""

from __future__ import annotations

import gc
import itertools
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


def _loop(work: Work, times: int) -> float:
    started = time.perf_counter()
    for _ in itertools.repeat(None, times):
        work()
    return (time.perf_counter() - started) / times
