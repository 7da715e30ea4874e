"""A server is gone for good, and its standby takes its place."""

from __future__ import annotations

import time

from tests.faults.outcome import Outcome, Play
from tests.faults.pages import forms
from tests.faults.standby import query

# What is written in these last seconds does not reach the standby.
BEHIND = 0.3


def promotion_sync(play: Play) -> Outcome:
    """Each COMMIT waits for the standby: what it does not have was never answered."""
    return _promotion(play, sync=True)


def promotion_async(play: Play) -> Outcome:
    """What the standby does not have is lost, and nobody may say otherwise once it has taken over."""
    return _promotion(play, sync=False)


def _promotion(play: Play, sync: bool) -> Outcome:
    stage = play.stage
    with stage.standby(sync) as standby:
        # libpq tries them in turn, for the one that takes writes.
        address = f"{stage.cluster.address},{standby.address}", f"{stage.cluster.port},{standby.port}"
        name = f"promotion, {'sync' if sync else 'async'}"
        with play.under_load(name, forms(), address=address) as (outcome, _):
            time.sleep(play.scale.pause)
            sender = int(query(stage.cluster, "SELECT pid FROM pg_stat_replication"))
            with stage.faults.frozen(sender):
                time.sleep(BEHIND)
                stage.faults.kill()
            standby.promote()
            taken_over = time.monotonic()
            stage.turn_to(standby)
            time.sleep(play.scale.pause)
    _excuse(outcome, taken_over)
    return outcome


def _excuse(outcome: Outcome, taken_over: float) -> None:
    """What was answered before its loss could be known was true then."""
    asked = {answer.request.id: answer for answer in outcome.results.answers}
    lost = [asked[id] for id in outcome.verdict.lost]
    before = [answer for answer in lost if answer.ended < taken_over]
    outcome.verdict.lost = [answer.request.id for answer in lost if answer not in before]
    outcome.notes.append(f"{len(before)} writes answered 200 were lost with their server")
