"""Ask a site at a fixed rate while you restart its database, and see what its visitors saw.

python -m tests.faults http://127.0.0.1:8000 --rate 150 --seconds 30 --page / --page /about/=0.2
"""

from __future__ import annotations

import argparse
import sys

from tests.faults.load import Load, mix
from tests.faults.results import Results


def page(text: str) -> tuple[str, float]:
    """``/path/`` or ``/path/=weight``."""
    path, _, weight = text.rpartition("=") if "=" in text.partition("?")[0] else (text, "", "1")
    try:
        if not path.startswith("/") or float(weight) <= 0:
            raise ValueError
    except ValueError:
        message = f"{text!r}: give a path such as /about/, or /about/=0.2 with how often it is asked"
        raise argparse.ArgumentTypeError(message) from None
    return path, float(weight)


def run(url: str, pages: list[tuple[str, float]], rate: float, seconds: float, timeout: float) -> Results:
    load = Load(url, mix(dict(pages)), rate=rate, seconds=seconds, timeout=timeout)
    with load:
        try:
            load.finish()
        except KeyboardInterrupt:
            print("stopped; waiting for the last answers", file=sys.stderr)
    return load.results


def main() -> int:
    summary, _, example = (__doc__ or "").strip().partition("\n\n")
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=summary, epilog=example)
    parser.add_argument("url", help="http://host:port of the site")
    parser.add_argument("--rate", type=float, default=150.0, help="requests a second (150)")
    parser.add_argument("--seconds", type=float, default=30.0, help="for how long (30)")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds that an answer may take (60)")
    parser.add_argument("--page", type=page, action="append", help="a path to ask, with =WEIGHT; repeat it")
    given = parser.parse_args()
    try:
        results = run(given.url, given.page or [("/", 1.0)], given.rate, given.seconds, given.timeout)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(results.table())
    return 1 if results.failures else 0


if __name__ == "__main__":
    sys.exit(main())
