"""Medians of paired ratios."""

from __future__ import annotations

import random
from statistics import median

import pytest

from tests.bench.statistics import figure, ratios, spread


def test_ratios_are_of_pairs() -> None:
    assert ratios([2.0, 6.0], [1.0, 2.0]) == [2.0, 3.0]


def test_ratio_to_nothing_is_infinite() -> None:
    assert ratios([2.0], [0.0]) == [float("inf")]


def test_pairs_have_to_be_complete() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratios([1.0, 2.0], [1.0])


def test_median_and_quarters() -> None:
    found = spread([5.0, 1.0, 3.0, 2.0, 4.0])
    assert (found.median, found.low, found.high, found.size) == (3.0, 2.0, 4.0, 5)


def test_of_one() -> None:
    found = spread([2.5])
    assert (found.median, found.low, found.high, found.sure_low, found.sure_high) == (2.5,) * 5


def test_of_few_the_interval_is_the_whole_sample() -> None:
    found = spread([3.0, 1.0, 2.0])
    assert (found.sure_low, found.sure_high) == (1.0, 3.0)


def test_of_none() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        spread([])


def test_interval_of_ten_is_the_one_of_the_tables() -> None:
    """Ranks 2 and 9 of 10, which hold the median in 97.9 of 100 cases; 3 and 8 would in 89."""
    found = spread(float(number) for number in range(1, 11))
    assert (found.sure_low, found.sure_high) == (2.0, 9.0)


def test_interval_holds_the_true_median_as_often_as_it_says() -> None:
    draw = random.Random(1)
    samples = [spread(draw.gauss(1.0, 0.1) for _ in range(20)) for _ in range(2000)]
    held = sum(found.sure_low <= 1.0 <= found.sure_high for found in samples)
    assert 0.95 <= held / len(samples) <= 0.98


def test_drift_that_both_sides_share_is_not_in_the_ratio() -> None:
    speeds = [100.0, 50.0, 25.0, 80.0]
    assert median(ratios([1.1 * speed for speed in speeds], speeds)) == pytest.approx(1.1)


@pytest.mark.parametrize(
    ("value", "text"), [(0.9876, "0.988"), (1.5, "1.500"), (5.678, "5.68"), (12.34, "12.3"), (1234.5, "1234")]
)
def test_figures_have_the_digits_that_count(value: float, text: str) -> None:
    assert figure(value) == text
