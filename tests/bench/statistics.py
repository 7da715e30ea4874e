"""Medians of paired ratios, and how far they may be trusted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import comb
from statistics import median, quantiles

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Spread:
    """Of a sample.

    :ivar low: below it lies a quarter of the sample, above *high* another.
    :ivar sure_low: with *sure_high*: 95 in 100 such intervals hold the true median.
    """

    median: float
    low: float
    high: float
    sure_low: float
    sure_high: float
    size: int

    def __str__(self) -> str:
        return f"{figure(self.median)} ({figure(self.low)}-{figure(self.high)})"


def spread(sample: Iterable[float]) -> Spread:
    ranked = sorted(sample)
    if not ranked:
        raise ValueError("no sample: nothing was measured")
    low, _, high = quantiles(ranked, n=4, method="inclusive") if len(ranked) > 1 else ranked * 3
    first, last = _interval(len(ranked))
    return Spread(median(ranked), low, high, ranked[first], ranked[last], len(ranked))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Pair by pair; a pair whose other side did nothing is infinitely better."""
    return [a / b if b else float("inf") for a, b in zip(ours, theirs, strict=True)]


def _interval(size: int) -> tuple[int, int]:
    """Ranks of the order statistics that hold the median with CONFIDENCE; of few, all of them."""
    outside, rank = 0.0, 0
    for candidate in range(size // 2):
        outside += 2 * comb(size, candidate) / 2**size
        if outside > 1 - CONFIDENCE:
            break
        rank = candidate
    return rank, size - 1 - rank


def figure(value: float) -> str:
    """Three digits that count, but never less than whole numbers."""
    if value >= 100 or value != value:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 2 else f"{value:.3f}"
