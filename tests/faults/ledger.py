"""What was answered against what was committed: every write carries an id, and leaves it in a row."""

from __future__ import annotations

import bisect
import itertools
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.faults.results import Answer, Request


@dataclass
class Verdict:
    """The ids of each kind of imbalance.

    :ivar lost: answered with 200, and not committed.
    :ivar doubled: committed more than once.
    :ivar foreign: committed, but nobody asked for it.
    :ivar denied: answered with 503 and Retry-After, which says "not done", and committed all the same.
    :ivar unknown: no answer, or one that promises nothing: committed or not, both are right.
    """

    committed: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    denied: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    @property
    def balanced(self) -> bool:
        return not (self.lost or self.doubled or self.foreign or self.denied)

    def __str__(self) -> str:
        wrong = {name: getattr(self, name) for name in ("lost", "doubled", "foreign", "denied")}
        found = [f"{len(ids)} {name}: {_some(ids)}" for name, ids in wrong.items() if ids]
        summary = f"{self.committed} rows, {len(self.unknown)} unknown"
        return f"balanced ({summary})" if not found else f"NOT BALANCED ({summary}): {'; '.join(found)}"


def judge(answers: Iterable[Answer], rows: Iterable[str]) -> Verdict:
    """Compare the answers to writes with the ids in the table; answers without an id are left out."""
    committed = Counter(rows)
    promises = {answer.request.id: _promise(answer) for answer in answers if answer.request.id}
    return Verdict(
        committed=committed.total(),
        lost=[id for id, done in promises.items() if done and not committed[id]],
        doubled=[id for id, times in committed.items() if times > 1],
        foreign=[id for id in committed if id not in promises],
        denied=[id for id, done in promises.items() if done is False and committed[id]],
        unknown=[id for id, done in promises.items() if done is None],
    )


def stale(answers: Iterable[Answer], count: str) -> list[Answer]:
    """Answers of the page *count*, of ``faults/count/``, that know less than was answered with 200 before
    they were asked for: of a server that leads no more."""
    every = list(answers)
    done = sorted(a.ended for a in every if a.request.id and _promise(a))
    counts = [a for a in every if a.request.page == count and a.status == 200]
    return [a for a in counts if int(a.text) < bisect.bisect_left(done, a.scheduled)]


def _promise(answer: Answer) -> bool | None:
    """Whether the answer says that the write is done, or that it is not; None if it says neither."""
    if answer.status == 200:
        return True
    return False if answer.status == 503 and answer.retry_after else None


class Writer:
    """Gives write requests, each with an id that no other has.

    :param name: begins the ids; two writers on one table need two names.
    """

    def __init__(self, path: str, name: str) -> None:
        self._path = path
        self._ids = (f"{name}-{number}" for number in itertools.count(1))

    def __call__(self) -> Request:
        id = next(self._ids)
        return Request(self._path, "POST", data=(("id", id),), expects=id, id=id)


def _some(ids: list[str], most: int = 5) -> str:
    return ", ".join(ids[:most]) + (", ..." if len(ids) > most else "")
