"""A run's folder: the figures, the tables and the charts; ``python -m tests.bench.report FOLDER``
writes tables and charts anew from the figures."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.bench import charts, scaling, tables
from tests.bench.results import Results, read
from tools.steps import say

FIGURES = "results.json"
TABLES, OVERVIEW, SHORT, SCALING = "benchmark.rst", "overview.rst", "readme.rst", "scaling.rst"


def write(results: Results, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    results.write(folder / FIGURES)
    (folder / TABLES).write_text(tables.report(results))
    (folder / OVERVIEW).write_text(tables.overview(results))
    (folder / SHORT).write_text(tables.short(results))
    (folder / SCALING).write_text(scaling.report(results))
    try:
        drawn = charts.draw(results, folder)
    except ImportError:
        say("no charts: matplotlib is not installed")
    else:
        say(f"charts: {', '.join(drawn) or 'none, for want of figures'}")


def main() -> None:
    for name in sys.argv[1:]:
        folder = Path(name)
        write(read(folder / FIGURES), folder)


if __name__ == "__main__":
    main()
