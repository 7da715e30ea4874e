"""What was asked and what came back, and the tables that say so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from urllib.parse import urlencode


@dataclass(frozen=True)
class Request:
    """What to ask.

    :param data: fields of a form, which a POST sends.
    :param expects: what the answer's text has to be for a status of 200; None if it does not matter.
    :param id: of a write: tells it from all others, for the :mod:`ledger <tests.faults.ledger>`.
    """

    path: str
    method: str = "GET"
    data: tuple[tuple[str, str], ...] = ()
    expects: str | None = None
    id: str = ""

    @property
    def page(self) -> str:
        """The path without its query."""
        return self.path.partition("?")[0]

    def encoded(self, host: str, prefix: str = "") -> bytes:
        body = urlencode(self.data).encode()
        head = [f"{self.method} {prefix}{self.path} HTTP/1.1", f"Host: {host}", "Connection: close"]
        if self.method == "POST":
            head += ["Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(body)}"]
        return "\r\n".join([*head, "", ""]).encode() + body


@dataclass(frozen=True)
class Answer:
    """What came back. *scheduled* is the moment (monotonic) at which the request had to be sent,
    *latency* counts from then. *status* is 0 where no answer came, and *error* says why."""

    request: Request
    scheduled: float
    latency: float
    status: int = 0
    retry_after: str = ""
    text: str = ""
    error: str = ""

    @property
    def ended(self) -> float:
        """The moment when it came."""
        return self.scheduled + self.latency

    @property
    def kind(self) -> str:
        """The status, told apart by what the visitor may do: ``503+`` has a Retry-After."""
        if self.error:
            return "none"
        if self.status == 200 and self.request.expects not in (None, self.text):
            return "wrong"
        return f"{self.status}+" if self.retry_after else str(self.status)

    @property
    def failed(self) -> bool:
        """No answer, a wrong one, or a status of 400 and above."""
        return self.kind in ("none", "wrong") or self.status >= 400

    def __str__(self) -> str:
        what = self.error or self.text.partition("\n")[0][:80]
        return (
            f"{self.latency * 1000:9.1f} ms  {self.kind:5} {self.request.method} {self.request.path}  {what}"
        )


@dataclass
class Results:
    """All answers of a load. *latest* is how late the load itself ever was to send, in seconds."""

    answers: list[Answer] = field(default_factory=list)
    sent: int = 0
    latest: float = 0.0
    started: float = 0.0
    ended: float = 0.0

    @property
    def failures(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.failed]

    def kinds(self) -> Counter[str]:
        return Counter(answer.kind for answer in self.answers)

    def of(self, *pages: str) -> Results:
        """Those of these pages alone."""
        return self.where(lambda answer: answer.request.page in pages)

    def between(self, since: float, until: float) -> Results:
        """Those whose moment lies between these two, on the monotonic clock."""
        return self.where(lambda answer: since <= answer.scheduled < until)

    def where(self, fits: Callable[[Answer], bool]) -> Results:
        chosen = [answer for answer in self.answers if fits(answer)]
        return Results(chosen, len(chosen), self.latest, self.started, self.ended)

    def latency(self, quantile: float) -> float:
        """Seconds that this part of the requests did not exceed; answered or not, all count."""
        ranked = sorted(answer.latency for answer in self.answers)
        return ranked[min(int(quantile * len(ranked)), len(ranked) - 1)] if ranked else 0.0

    def slowest(self, count: int = 5) -> list[Answer]:
        return sorted(self.answers, key=lambda answer: -answer.latency)[:count]

    def pages(self) -> list[str]:
        return sorted({answer.request.page for answer in self.answers})

    def table(self) -> str:
        """Answers by page and kind with their latencies, and the slowest."""
        head = ("page", "requests", "answers", "median ms", "p99 ms", "slowest ms")
        rows = [_row(page, self.of(page)) for page in self.pages()]
        lines = [*aligned([head, *rows]), "", "the slowest:", *map(str, self.slowest())]
        if failures := self.failures:
            lines += ["", f"the first of {len(failures)} that failed:", *map(str, failures[:5])]
        return "\n".join([*lines, "", f"sent {self.sent}, at most {self.latest * 1000:.1f} ms late"])


def _row(page: str, of_page: Results) -> tuple[str, ...]:
    times = (f"{of_page.latency(quantile) * 1000:.1f}" for quantile in (0.5, 0.99, 1.0))
    return (page, str(len(of_page.answers)), counted(of_page.kinds()), *times)


def counted(kinds: Counter[str]) -> str:
    """``200: 4490, 503+: 10``"""
    return ", ".join(f"{kind}: {number}" for kind, number in sorted(kinds.items())) or "-"


def aligned(rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Columns as wide as their widest cell."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
