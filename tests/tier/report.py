"""Bring the tier up on this machine, do everything to it in turn, and print a table.

python -m tests.tier.report --only switchover,pooler-restarted --rate 20
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.faults import Unavailable
from tests.faults.report import DRIVERS, chosen
from tests.site.fault_views import LEDGER
from tests.tier import storm
from tests.tier.cluster import PatroniCluster
from tests.tier.events import EVENTS, Tier, tier_on
from tests.tier.hosts import Bridge
from tests.tier.play import Outcome, Play, table
from tests.tier.site import HOSTS, POOLER, VARIANTS, Site, served
from tools.steps import say

ROUTES = {route.name: route for route in (HOSTS, POOLER)}


@contextmanager
def tier() -> Iterator[Tier]:
    home = Path(tempfile.mkdtemp(prefix="tier"))
    home.chmod(0o755)
    try:
        with Bridge() as bridge, ExitStack() as stack:
            found = tier_on(PatroniCluster(bridge, home), home, LEDGER)
            stack.callback(found.haproxy.stop)
            stack.callback(found.pooler.stop)
            yield found
    finally:
        shutil.rmtree(home, ignore_errors=True)


def sites(found: Tier, driver: str, stack: ExitStack, variants: list[str], routes: list[str]) -> list[Site]:
    return [
        stack.enter_context(served(found.cluster, variant, ROUTES[route], driver))
        for variant in variants
        for route in routes
    ]


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.tier.report", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    for name, known in {"only": EVENTS, "variants": VARIANTS, "routes": ROUTES}.items():
        parser.add_argument(f"--{name}", type=chosen(known), default=",".join(known))
    parser.add_argument("--driver", choices=DRIVERS, default="psycopg")
    parser.add_argument("--storm", action="store_true", help="a thousand workers instead")
    parser.add_argument("--rate", type=float, default=40.0, help="requests a second, of each site")
    return parser


def main() -> int:
    given = parser().parse_args()
    if given.storm:
        return storm.main(["--driver", given.driver])
    found: list[Outcome] = []
    began = time.monotonic()
    try:
        with tier() as ready, ExitStack() as stack:
            say(f"the cluster is up after {time.monotonic() - began:.0f} s")
            every = sites(ready, given.driver, stack, given.variants, given.routes)
            play = Play(ready, every, importlib.import_module(given.driver), given.rate)
            for name in given.only:
                say(f"{name} ({time.monotonic() - began:.0f} s)")
                found += (outcomes := play(name, EVENTS[name]))
                for outcome in outcomes:
                    say("    " + "  ".join(outcome.row()) + f"  recovery {outcome.recovery():.1f}")
    except Unavailable as missing:
        say(str(missing))
        return 1
    except (KeyboardInterrupt, RuntimeError) as stopped:
        # What has been found is shown all the same.
        print(f"stopped: {stopped}", file=sys.stderr)
    print(f"{os.cpu_count()} cores, {given.rate:g} requests a second to each site, {given.driver}")
    print(table(found))
    ours = [outcome for outcome in found if outcome.site.startswith("ours")]
    complete = len(found) == len(given.only) * len(given.variants) * len(given.routes)
    return 0 if complete and all(outcome.verdict.balanced for outcome in ours) else 1


if __name__ == "__main__":
    sys.exit(main())
