"""What happens to databases, done to a site under load; ``python -m tests.faults.report`` runs all."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable

from tests.faults.chaos import Chaos
from tests.faults.faults import FAST, IMMEDIATE, wait_for
from tests.faults.load import NextRequest, mix
from tests.faults.outcome import Outcome, Play
from tests.faults.pages import NO_QUERY, PAGES, READ_SLOWLY, both, forms, reads, writes
from tests.faults.promotion import promotion_async, promotion_sync
from tests.faults.remote import RemoteProxy
from tests.faults.results import Request, Results

PROMPT = 15.0
# The first requests of each worker wait for the server, with those that queue behind them.
SETTLED = 7.0
Scenario = Callable[[Play], Outcome]


def restarts_under_reads(play: Play) -> Outcome:
    return _restarts(play, "restarts, reads", reads())


def restarts_under_writes(play: Play) -> Outcome:
    return _restarts(play, "restarts, writes", writes())


def terminations_under_reads(play: Play) -> Outcome:
    return _terminations(play, "terminations, reads", reads())


def terminations_under_writes(play: Play) -> Outcome:
    return _terminations(play, "terminations, writes", writes())


def restarts_under_forms(play: Play) -> Outcome:
    return _restarts(play, "restarts, forms", forms())


def terminations_under_forms(play: Play) -> Outcome:
    return _terminations(play, "terminations, forms", forms())


def kills_under_forms(play: Play) -> Outcome:
    """The server is killed, and what it had not written to its log is forgotten."""
    with play.under_load("kills, forms", forms()) as (outcome, _):
        for _ in range(play.scale.kills):
            time.sleep(play.scale.pause)
            play.stage.faults.kill_postmaster()
        time.sleep(play.scale.pause)
    return outcome


def down(play: Play) -> Outcome:
    """The server is away for long; half of the pages do not need it."""
    pages = mix({PAGES[0]: 1.0, Request(NO_QUERY, expects="no query"): 1.0})
    scale = play.scale
    with RemoteProxy(play.stage.address) as proxy:
        address = ("127.0.0.1", proxy.port)
        with play.under_load("down", pages, address=address) as (outcome, _):
            time.sleep(scale.around)
            gone = time.monotonic()
            with play.stage.faults.stopped():
                time.sleep(scale.down)
                back = time.monotonic()
            time.sleep(scale.around)
        attempts = [moment for moment in proxy.accepted() if gone <= moment < back]
    outcome.attempts = len(attempts)
    outcome.notes += _phases(outcome.results, gone, back)
    outcome.notes.append(f"attempts to connect while down: {_pace(attempts, back - gone)}")
    return outcome


def silence(play: Play) -> Outcome:
    """The cable is pulled while statements run, and again between requests; PROMPT bounds the answers."""
    network, faults = play.stage.network, play.stage.faults
    assert network is not None
    pages = mix({PAGES[0]: 1.0, Request(f"{READ_SLOWLY}?seconds=0.5", expects="1 2 3"): 1.0})
    # Few enough that nobody waits for a worker while all is well.
    with play.under_load("silence", pages, rate=play.workers, timeout=PROMPT) as (outcome, _):
        for moment in (lambda: faults.busy() > 0, lambda: faults.busy() == 0):
            time.sleep(play.scale.pause)
            wait_for(moment)
            network.down()
            time.sleep(play.scale.silence)
            network.up()
            outcome.recoveries.append(_recovery(outcome.results))
    times = ", ".join(f"{seconds:.1f}" for seconds in outcome.recoveries)
    outcome.notes.append(f"seconds from the cable's return to a request that succeeded: {times}")
    return outcome


def random_faults(play: Play) -> Outcome:
    """The seed repeats the faults and the pauses between them, though not the moment of each request."""
    draw = random.Random(play.scale.seed)
    with RemoteProxy(play.stage.address) as proxy:
        address = ("127.0.0.1", proxy.port)
        with play.under_load("random faults", both(), address=address) as (outcome, apache):
            chaos = Chaos(draw, play.stage.faults, proxy, apache)
            for _ in range(play.scale.rounds):
                time.sleep(draw.uniform(0.0, 0.5))
                chaos.strike()
        outcome.notes.append(f"seed {play.scale.seed}: {chaos}")
    return outcome


SCENARIOS: dict[str, Scenario] = {
    "restarts-reads": restarts_under_reads,
    "terminations-reads": terminations_under_reads,
    "restarts-writes": restarts_under_writes,
    "terminations-writes": terminations_under_writes,
    "restarts-forms": restarts_under_forms,
    "terminations-forms": terminations_under_forms,
    "kills-forms": kills_under_forms,
    "promotion-sync": promotion_sync,
    "promotion-async": promotion_async,
    "down": down,
    "silence": silence,
    "random": random_faults,
}


def _restarts(play: Play, name: str, requests: NextRequest) -> Outcome:
    with play.under_load(name, requests) as (outcome, _):
        for number in range(play.scale.restarts):
            time.sleep(play.scale.pause)
            play.stage.faults.restart(IMMEDIATE if number % 2 else FAST)
        time.sleep(play.scale.pause)
    return outcome


def _terminations(play: Play, name: str, requests: NextRequest) -> Outcome:
    """Every session, five times a second."""
    ended = 0
    with play.under_load(name, requests) as (outcome, _):
        until = time.monotonic() + play.scale.terminating
        while time.monotonic() < until:
            time.sleep(0.2)
            ended += play.stage.faults.terminate_all()
    outcome.notes.append(f"{ended} sessions terminated")
    return outcome


def _phases(results: Results, gone: float, back: float) -> list[str]:
    settled = gone + SETTLED
    phases = {
        "before": (0.0, gone),
        f"in the first {SETTLED:g} s down": (gone, settled),
        "down after that": (settled, back),
        "after": (back, float("inf")),
    }
    return [
        f"{page} {phase}: median {part.latency(0.5) * 1000:.1f} ms, p99 {part.latency(0.99) * 1000:.1f} ms"
        for page in results.pages()
        for phase, moments in phases.items()
        for part in [results.of(page).between(*moments)]
    ]


def _pace(moments: list[float], seconds: float) -> str:
    most = max((sum(0 <= other - moment < 1 for other in moments) for moment in moments), default=0)
    return f"{len(moments)}, {len(moments) / seconds:.1f} a second, at most {most} in one"


def _recovery(results: Results) -> float:
    """Seconds until the moment of the first request from now on that succeeds."""
    since = time.monotonic()

    def succeeded() -> list[float]:
        return [a.scheduled for a in list(results.answers) if a.scheduled > since and a.kind == "200"]

    try:
        wait_for(succeeded, 60.0)
    except TimeoutError:
        return math.inf
    return min(succeeded()) - since
