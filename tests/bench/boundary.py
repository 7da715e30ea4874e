"""What the boundary of a request costs, without a web server: ``python -m tests.bench.boundary``.

Variants are run in turn, each request for request beside the bare application, so that a machine whose
speed drifts treats them alike; each figure is the median over the rounds of the median paired difference.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median
from types import ModuleType
from typing import Any
from wsgiref.util import setup_testing_defaults

from tests.bench.stage import Stage
from tests.bench.statements import measure_scanner, measure_statements
from tests.bench.timing import microseconds
from tools.postgres import Cluster
from wsgi_persist import PersistMiddleware, Pin
from wsgi_persist.worker.registry import process_scope

Application = Callable[..., Iterable[bytes]]
REQUESTS = 1_000
# Names of the figures, in microseconds a request where nothing else is said.
ONE_PIN, EIGHT_PINS, LEASED = "1 live pin", "8 live pins", "1 live pin, leased"
# As of tenants: max_pins of them are kept.
SIXTY_PINS = "60 pins used, 8 of them live"
FLATNESS, CALLS = "8 pins / 1 pin", "system calls, {} live pins"


@dataclass(frozen=True)
class Effort:
    """How often is measured: rounds of pairs of REQUESTS."""

    rounds: int
    pairs: int

    @property
    def size(self) -> int:
        return self.rounds * self.pairs


FULL, SHORT = Effort(9, 60), Effort(3, 20)


def environ() -> dict[str, Any]:
    given: dict[str, Any] = {}
    setup_testing_defaults(given)
    # The server's file wrapper is there under mod_wsgi, so its cost counts.
    return {**given, "wsgi.multithread": False, "wsgi.file_wrapper": object}


def bare(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    start_response("200 OK", [])
    return [b"hello"]


def using(pin: Pin) -> Application:
    """The application touches its connection, which leases the pin, and sends nothing."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        pin.connection  # noqa: B018
        return bare(environ, start_response)

    return app


def serve(application: Application, requests: int) -> None:
    given = environ()
    for _ in range(requests):
        response = application(given, start_response)
        for _chunk in response:
            pass
        close = getattr(response, "close", None)
        if close is not None:
            close()


def start_response(status: str, headers: list[Any], *exc_info: Any) -> Callable[[bytes], object]:
    return bytes


class Variants:
    """Applications with so many live pins in the process scope while each is measured."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        self.pins = [Pin(connect, name=f"pin {number}") for number in range(60)]

    def live(self, count: int) -> None:
        scope = process_scope()
        for pinned in list(scope.pins.values()):
            pinned.stop()
        scope.pins.clear()
        boundary = scope.enter({})
        for pin in self.pins[:count]:
            pin.connection  # noqa: B018
        boundary.leave()

    def cost(self, application: Application, pins: int, pairs: int) -> float:
        """Microseconds a request beyond the bare application."""
        self.live(pins)
        return median(_served(application) - _served(bare) for _ in range(pairs))


def _served(application: Application) -> float:
    return microseconds(lambda: serve(application, REQUESTS), REQUESTS)


def measure(driver: ModuleType, cluster: Cluster, effort: Effort) -> dict[str, float]:
    variants = Variants(lambda: driver.connect(**cluster.dsn()))
    idle, busy = PersistMiddleware(bare), PersistMiddleware(using(variants.pins[0]))
    connection = driver.connect(**cluster.dsn())
    connection.autocommit = True
    found: dict[str, list[float]] = {}
    for _ in range(effort.rounds):
        for name, app, pins in [
            ("no pin", idle, 0),
            (ONE_PIN, idle, 1),
            (EIGHT_PINS, idle, 8),
            (SIXTY_PINS, idle, 60),
            (LEASED, busy, 1),
        ]:
            found.setdefault(name, []).append(variants.cost(app, pins, effort.pairs))
        ping = microseconds(lambda: select_one(connection, REQUESTS), REQUESTS)
        found.setdefault("SELECT 1, Unix socket", []).append(ping)
    variants.live(0)
    connection.close()
    flat = median(a / b for a, b in zip(found[EIGHT_PINS], found[ONE_PIN], strict=True))
    return {**{name: median(costs) for name, costs in found.items()}, FLATNESS: flat}


def select_one(connection: Any, times: int) -> None:
    with connection.cursor() as cursor:
        for _ in range(times):
            cursor.execute("SELECT 1")


COUNTED = """
import sys
from tests.bench.boundary import *
import psycopg2
variants = Variants(lambda: psycopg2.connect(sys.argv[1]))
variants.live(int(sys.argv[2]))
serve(PersistMiddleware(bare) if sys.argv[3] == "wrapped" else bare, int(sys.argv[4]))
"""


def system_calls(cluster: Cluster, pins: int) -> float | None:
    """System calls that the boundary adds to a request, counted by strace; None where it is not."""
    if shutil.which("strace") is None:
        return None
    dsn = " ".join(f"{key}={value}" for key, value in cluster.dsn().items())
    calls = {
        (kind, n): _count([dsn, str(pins), kind, str(n)])
        for kind in ("bare", "wrapped")
        for n in (1000, 2000)
    }
    # Twice the requests minus once leaves out the start and the end of the process.
    added = {kind: calls[kind, 2000] - calls[kind, 1000] for kind in ("bare", "wrapped")}
    return (added["wrapped"] - added["bare"]) / 1000


def _count(arguments: list[str]) -> int:
    with tempfile.NamedTemporaryFile("r") as log:
        command = ["strace", "-f", "-o", log.name, sys.executable, "-c", COUNTED, *arguments]
        # Without a hash seed the garbage collector runs at the same moments in every run.
        subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": "0"})
        return sum(1 for _ in log)


def figures(cluster: Cluster, effort: Effort) -> dict[str, dict[str, float]]:
    """By driver; what has nothing to do with one stands under ``any``."""
    import psycopg
    import psycopg2

    found = {driver.__name__: measure(driver, cluster, effort) for driver in (psycopg, psycopg2)}
    calls = {CALLS.format(pins): system_calls(cluster, pins) for pins in (1, 8)}
    counted = {name: number for name, number in calls.items() if number is not None}
    return {**found, "any": {**measure_statements(effort.size), **measure_scanner(), **counted}}


def main() -> None:
    print("beyond the bare application, microseconds a request (median of paired differences):")
    with Stage() as stage:
        for driver, found in figures(stage.cluster, FULL).items():
            for name, value in found.items():
                print(f"{driver:9} {name:44}{value:9.2f}")


if __name__ == "__main__":
    main()
