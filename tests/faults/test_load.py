"""The load generator, on real sockets, and the ledger, which is pure logic."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import eventually
from tests.faults.__main__ import page
from tests.faults.ledger import Writer, judge, stale
from tests.faults.load import Load, mix
from tests.faults.results import Answer, Request

ROOT = Path(__file__).parent.parent.parent
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
OUTAGE = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Length: 3\r\n\r\nout"


class Site:
    """Answers every request with what *answer* makes of it; None is no answer."""

    def __init__(self, answer: Callable[[bytes], bytes | None]) -> None:
        self.answer = answer
        self.asked: list[bytes] = []
        self._silent: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for client in self._silent:
            client.close()

    def _serve(self) -> None:
        try:
            while True:
                client, _ = self._listener.accept()
                request = client.recv(65536)
                self.asked.append(request)
                answer = self.answer(request)
                if answer is None:
                    self._silent.append(client)
                else:
                    client.sendall(answer)
                    client.close()
        except OSError:
            return


@pytest.fixture
def site() -> Iterator[Callable[..., Site]]:
    sites: list[Site] = []

    def make(answer: Callable[[bytes], bytes | None]) -> Site:
        sites.append(Site(answer))
        return sites[-1]

    yield make
    for site in sites:
        site.close()


def test_every_request_is_sent_at_its_moment_though_nothing_is_answered(site: Callable[..., Site]) -> None:
    silent = site(lambda request: None)
    load = Load(silent.url, mix({"/": 1}), rate=400, seconds=0.5, timeout=1.0)
    results = load.run()
    assert results.sent == 200
    assert len(silent.asked) == 200
    moments = sorted(answer.scheduled - results.started for answer in results.answers)
    assert moments == pytest.approx([number / 400 for number in range(200)])
    assert {answer.error for answer in results.answers} == {"no answer after 1 s"}
    assert results.kinds() == {"none": 200}


def test_latency_counts_from_the_moment_of_the_request(site: Callable[..., Site]) -> None:
    """A server that takes one request after another keeps the later ones waiting."""

    def slow(request: bytes) -> bytes:
        time.sleep(0.02)
        return OK

    results = Load(site(slow).url, mix({"/": 1}), rate=1000, seconds=0.02).run()
    assert results.kinds() == {"200": 20}
    assert results.latency(1.0) >= 0.02 * 20 - 0.02


def test_methods_bodies_and_headers(site: Callable[..., Site]) -> None:
    wanted = [
        Request("/read/?page=1"),
        Request("/read/", "HEAD"),
        Request("/write/", "POST", data=(("id", "a-1"),), expects="no"),
        Request("/read/", expects="ok"),
    ]
    served = site(lambda request: OUTAGE if b"page" in request else OK)
    given = iter(wanted)
    results = Load(served.url, lambda: next(given), rate=100, seconds=len(wanted) / 100).run()
    found = {answer.request: answer for answer in results.answers}
    assert [found[request].kind for request in wanted] == ["503+", "200", "wrong", "200"]
    assert found[wanted[0]].retry_after == "2"
    assert found[wanted[0]].text == "out"
    assert [answer.request for answer in results.failures] == [wanted[0], wanted[2]]
    post = next(request for request in served.asked if request.startswith(b"POST"))
    assert post.endswith(b"Content-Length: 6\r\n\r\nid=a-1")
    assert results.of("/read/").kinds() == {"200": 2, "503+": 1}


def test_chunks_are_put_together(site: Callable[..., Site]) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked = site(lambda request: head + b"2\r\no\r\r\n3;x=y\r\n\nk!\r\n0\r\n\r\n")
    results = Load(chunked.url, mix({Request("/", expects="o\r\nk!"): 1}), rate=100, seconds=0.02).run()
    assert results.kinds() == {"200": 2}


def test_broken_connections_are_failures_with_their_reason(site: Callable[..., Site]) -> None:
    cut = Load(site(lambda request: OK[:30]).url, mix({"/": 1}), rate=100, seconds=0.02).run()
    assert {answer.error for answer in cut.answers} == {
        "ConnectionError: closed before the answer was complete"
    }
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    refused = Load(url, mix({"/": 1}), rate=100, seconds=0.02).run()
    errors = [answer.error for answer in refused.failures]
    assert errors == ["ConnectionRefusedError: Connection refused"] * 2


def test_runs_until_it_is_stopped(site: Callable[..., Site]) -> None:
    with Load(site(lambda request: OK).url, mix({"/": 1}), rate=100) as load:
        assert eventually(lambda: len(load.results.answers) > 3, True)
    assert len(load.results.answers) == load.results.sent


def test_mix_follows_its_weights_and_its_seed() -> None:
    first, again = mix({"/a/": 9, "/b/": 1}, seed=1), mix({"/a/": 9, "/b/": 1}, seed=1)
    row = [first().path for _ in range(1000)]
    assert row == [again().path for _ in range(1000)]
    assert 850 < row.count("/a/") < 950


def test_table_for_people(site: Callable[..., Site]) -> None:
    url = site(lambda request: OUTAGE if b"/b/" in request else OK).url
    command = [sys.executable, "-m", "tests.faults", url, "--rate=100", "--seconds=0.2"]
    pages = ["--page=/a/", "--page=/b/=0.5"]
    done = subprocess.run([*command, *pages], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1, done.stderr
    assert "/b/   " in done.stdout
    assert "503+: " in done.stdout
    assert "sent 20, at most " in done.stdout


@pytest.mark.parametrize("text", ["about", "/a/=many", "/a/=0"])
def test_page_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Exception, match="give a path such as /about/"):
        page(text)


def test_page_with_a_query_has_no_weight() -> None:
    assert page("/a/?b=1") == ("/a/?b=1", 1.0)
    assert page("/a/=2") == ("/a/", 2.0)


def test_url_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'localhost:80' is not allowed: give http://host"):
        Load("localhost:80", mix({"/": 1}))


# ##### The ledger #####


def answer(id: str, status: int = 0, retry_after: str = "") -> Answer:
    error = "" if status else "reset"
    return Answer(Request("/write/", "POST", id=id), 0.0, 0.0, status, retry_after, error=error)


ANSWERS = [
    answer("done", 200),
    answer("told not done", 503, "2"),
    answer("unknown, done", 503),
    answer("unknown, not done", 503),
    answer("broken", 500),
    answer("silent"),
]


def test_books_that_balance() -> None:
    verdict = judge([*ANSWERS, answer("")], ["done", "unknown, done", "silent"])
    assert verdict.balanced
    assert verdict.unknown == ["unknown, done", "unknown, not done", "broken", "silent"]
    assert str(verdict) == "balanced (3 rows, 4 unknown)"


@pytest.mark.parametrize(
    ("rows", "kind", "id"),
    [
        ([], "lost", "done"),
        (["done", "done"], "doubled", "done"),
        (["done", "silent", "silent"], "doubled", "silent"),
        (["done", "nobody's"], "foreign", "nobody's"),
        (["done", "told not done"], "denied", "told not done"),
    ],
)
def test_books_that_do_not_balance(rows: list[str], kind: str, id: str) -> None:
    verdict = judge(ANSWERS, rows)
    assert not verdict.balanced
    assert {name: getattr(verdict, name) for name in ("lost", "doubled", "foreign", "denied")} == {
        "lost": [],
        "doubled": [],
        "foreign": [],
        "denied": [],
        kind: [id],
    }
    assert f"1 {kind}: {id}" in str(verdict)


def counted(at: float, text: str, status: int = 200) -> Answer:
    return Answer(Request("/count/"), at, 0.1, status, text=text)


def test_a_count_knows_of_what_was_answered_before_it() -> None:
    writes = [
        Answer(Request("/write/", "POST", id=f"w{n}"), float(n), 0.5, 200, text=f"w{n}") for n in (1, 2)
    ]
    right = [counted(1.0, "0"), counted(1.4, "1"), counted(1.6, "1"), counted(2.6, "2"), counted(3.0, "3")]
    assert stale([*writes, *right, counted(2.6, "", 503)], "/count/") == []
    behind = counted(2.6, "1")
    assert stale([*writes, *right, behind], "/count/") == [behind]


def test_writers_ids_are_their_own() -> None:
    one, two = Writer("/write/", "one"), Writer("/write/", "two")
    requests = [writer() for writer in (one, two, one, two)]
    assert [request.id for request in requests] == ["one-1", "two-1", "one-2", "two-2"]
    assert requests[0].data == (("id", "one-1"),)
