"""Charts of a report, as SVG and PNG."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tests.bench.plan import DJANGO, TRANSPORT_NAMES
from tests.bench.results import Results
from tests.bench.statistics import Spread, spread
from tests.bench.variants import OURS, VARIANTS

KINDS = ("svg", "png")
WIDTH = 0.8 / len(DJANGO)
OUR_COLOUR, COLOURS = "#1f5fa8", ("#b9b9b9", "#8c8c8c", "#5f5f5f")


def draw(results: Results, folder: Path) -> list[str]:
    """The names of the charts that could be drawn.

    :raises ImportError: matplotlib is not installed.
    """
    import matplotlib

    matplotlib.use("Agg")
    # The same figures give the same file.
    matplotlib.rcParams.update({"svg.hashsalt": "bench", "svg.fonttype": "none", "font.size": 9})
    charts: dict[str, Callable[[Results, Any], bool]] = {
        "rivals": _rivals,
        "transports": _transports,
        "workers": _workers,
    }
    return [name for name, chart in charts.items() if _save(name, chart, results, folder)]


def _save(name: str, chart: Callable[[Results, Any], bool], results: Results, folder: Path) -> bool:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.5, 4.0), layout="constrained")
    drawn = chart(results, axes)
    if drawn:
        axes.spines[["top", "right"]].set_visible(False)
        for kind in KINDS:
            metadata = {"Date": None} if kind == "svg" else {"Software": None}
            figure.savefig(folder / f"{name}.{kind}", metadata=metadata, dpi=120)
    pyplot.close(figure)
    return drawn


def _around(spreads: Iterable[Spread]) -> list[list[float]]:
    """How far the middle half reaches below and above the medians."""
    spreads = list(spreads)
    return [[each.median - each.low for each in spreads], [each.high - each.median for each in spreads]]


def _rivals(results: Results, axes: Any) -> bool:
    """All on a Unix socket as a part of ours, pair by pair: rates alone would drift with the machine."""
    outcome = results.outcome("three", "socket")
    if outcome is None:
        return False
    shares = {key: pairs.share for key, pairs in outcome.pairs.items()} | {OURS.key: spread([1.0])}
    keys = sorted(shares, key=lambda key: shares[key].median)
    bars = axes.barh(
        [VARIANTS[key].name for key in keys],
        [shares[key].median for key in keys],
        xerr=_around(shares[key] for key in keys),
        color=[OUR_COLOUR if key.startswith(OURS.key) else COLOURS[0] for key in keys],
        error_kw={"linewidth": 0.8},
    )
    axes.bar_label(bars, fmt="%.2f", fontsize=7, padding=2)
    axes.set_xlabel("requests/s as a part of wsgi_persist's: three SELECTs, Unix socket, 2 workers")
    return True


def _transports(results: Results, axes: Any) -> bool:
    """Ours as a multiple of Django's own ways, for each way to the server."""
    outcomes = {name: results.outcome("three", key) for key, name in TRANSPORT_NAMES.items()}
    present = {name: outcome for name, outcome in outcomes.items() if outcome is not None}
    for number, (key, colour) in enumerate(zip(DJANGO, COLOURS, strict=True)):
        ratios = {
            place + (number - 1) * WIDTH: outcome.pairs[key].ratio
            for place, outcome in enumerate(present.values())
            if key in outcome.pairs
        }
        bars = axes.bar(
            list(ratios),
            [ratio.median for ratio in ratios.values()],
            WIDTH,
            yerr=_around(ratios.values()),
            color=colour,
            label=f"against {VARIANTS[key].name}",
            error_kw={"linewidth": 0.8},
        )
        axes.bar_label(bars, fmt="%.2f", fontsize=7)
    axes.axhline(1.0, color=OUR_COLOUR, linewidth=0.8)
    axes.set_xticks(range(len(present)), list(present))
    axes.set_ylabel("wsgi_persist, times as many requests/s")
    axes.legend(frameon=False)
    return bool(present)


def _workers(results: Results, axes: Any) -> bool:
    """Requests a second by the number of workers."""
    found = {
        outcome.contest.workers: outcome
        for outcome in results.outcomes
        if (outcome.contest.page, *outcome.contest.stage[:2], outcome.contest.aliases)
        == ("three", "socket", "psycopg", 1)
    }
    numbers = sorted(found)
    if len(numbers) < 2:
        return False
    axes.plot(numbers, [found[n].rate.median for n in numbers], "o-", color=OUR_COLOUR, label=OURS.name)
    for key, colour in zip(DJANGO, COLOURS, strict=True):
        known = [number for number in numbers if key in found[number].pairs]
        rates = [found[number].pairs[key].rate.median for number in known]
        axes.plot(known, rates, "o-", color=colour, label=VARIANTS[key].name)
    axes.set_xscale("log", base=2)
    axes.set_xticks(numbers, [str(number) for number in numbers])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("workers")
    axes.set_ylabel("requests/s, three SELECTs, Unix socket")
    axes.legend(frameon=False)
    return True
