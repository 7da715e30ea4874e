"""What the page answers, whatever it is asked and whatever lies in its folder."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.page.scenes import LEAKS, Scene
from wsgi_persist.status import Counters, Event, StatusPage, application, findings
from wsgi_persist.status.page.metrics import wants_openmetrics
from wsgi_persist.status.page.watch import Watch

Ask = Callable[..., tuple[str, dict[str, str], str]]


def ask(page: StatusPage, path: str = "", query: str = "", **environ: str) -> tuple[str, dict[str, str], str]:
    """Status, headers and text, by a strict server."""
    given: dict[str, Any] = {"PATH_INFO": path, "QUERY_STRING": query, **environ}
    given["SCRIPT_NAME"] = "/persist-status"
    setup_testing_defaults(given)
    told: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], *_: object) -> Callable[[bytes], object]:
        told.extend([status, dict(headers)])
        return told.append

    response = validator(page)(given, start_response)
    body = b"".join(response)
    response.close()  # type: ignore[attr-defined]
    return told[0], told[1], body.decode()


@pytest.fixture
def page(scene: Scene) -> StatusPage:
    return StatusPage(scene.folder)


def test_page_is_html_under_a_strict_policy(scene: Scene, page: StatusPage) -> None:
    scene.worker("shop", 1)
    status, headers, text = ask(page)
    assert (status, headers["Content-Type"]) == ("200 OK", "text/html; charset=utf-8")
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert headers["Cache-Control"] == "no-store"
    assert "<script" not in text
    assert " style=" not in text


def test_one_site_or_all(scene: Scene, page: StatusPage) -> None:
    scene.worker("shop", 1)
    scene.worker("news & more", 1)
    assert ask(page)[2].count("Workers: 1 of 1 run") == 2
    text = ask(page, query="site=news+%26+more")[2]
    assert text.count("Workers: 1 of 1 run") == 1
    assert "<h2>news &amp; more</h2>" in text
    assert ask(StatusPage(scene.folder / "shop"))[2].count("Workers: 1 of 1 run") == 1


def test_folder_without_workers_says_so(page: StatusPage) -> None:
    status, _, text = ask(page)
    assert status == "200 OK"
    assert "</span> Fault</span> No worker tells of itself</li>" in text


def test_application_looks_where_the_workers_usually_are() -> None:
    assert isinstance(application, StatusPage)
    assert ask(application)[0] == "200 OK"


def test_refresh(scene: Scene, page: StatusPage) -> None:
    scene.worker("shop", 1)
    text = ask(page, query="refresh=5&site=shop")[2]
    assert '<meta http-equiv="refresh" content="5">' in text
    assert 'href="?refresh=5"' in text  # all sites
    assert 'href="?site=shop&amp;refresh=30"' in text


@pytest.mark.parametrize("asked", ["", "0", "-1", "1e3", "5;url=//evil", "\u0665", "9" * 5000, "<script>"])
def test_refresh_that_is_none(asked: str, scene: Scene, page: StatusPage) -> None:
    scene.worker("shop", 1)
    status, _, text = ask(page, query=f"refresh={quote(asked)}")
    assert status == "200 OK"
    assert "http-equiv" not in text


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"path": "/other"}, "404 Not Found"),
        ({"path": "/\xff\xfe/<script>"}, "404 Not Found"),
        ({"query": "site=nowhere"}, "404 Not Found"),
        ({"query": "site=../../etc"}, "404 Not Found"),
        ({"query": "site=%ff%00<script>"}, "404 Not Found"),
        ({"query": "&".join(["a=b"] * 5000)}, "200 OK"),
        ({"REQUEST_METHOD": "POST"}, "405 Method Not Allowed"),
        ({"REQUEST_METHOD": "DELETE"}, "405 Method Not Allowed"),
        ({"REQUEST_METHOD": "OPTIONS"}, "405 Method Not Allowed"),
        ({"REQUEST_METHOD": "HEAD"}, "200 OK"),
        ({"path": "/metrics", "query": "name[]=\xff"}, "200 OK"),
        ({"path": "/metrics", "HTTP_ACCEPT": "application/openmetrics-text; version=x; q=a, ,;"}, "200 OK"),
    ],
    ids=lambda given: str(given)[:40],
)
def test_bad_question(asked: dict[str, str], status: str, scene: Scene, page: StatusPage) -> None:
    scene.worker("shop", 1)
    found, _, text = ask(page, **asked)
    assert found == status
    assert "<script" not in text
    assert (text == "") == (asked.get("REQUEST_METHOD") == "HEAD")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.text(st.characters(max_codepoint=255), max_size=40),
    query=st.text(st.characters(max_codepoint=127), max_size=80),
    accept=st.text(st.characters(max_codepoint=255), max_size=40),
)
def test_no_question_is_a_500(path: str, query: str, accept: str, page: StatusPage) -> None:
    for start in ("", "/metrics"):
        wanted = start + (f"/{path}" if path else "")
        assert ask(page, wanted, query, HTTP_ACCEPT=accept)[0][:3] in ("200", "404")


def test_bad_files_are_a_line_each(scene: Scene, page: StatusPage, tmp_path: Path) -> None:
    folder = scene.worker("shop", 1).parent
    usual = (folder / next(iter(os.listdir(folder)))).read_bytes()
    (folder / "worker-1-1").write_bytes(usual.replace(b"wsgi_persist 1", b"wsgi_persist 2"))
    (folder / "worker-2-1").write_bytes(usual[:-20])
    (folder / "worker-3-1").write_bytes(os.urandom(5000))
    with (folder / "worker-4-1").open("wb") as large:
        large.truncate(100_000_000)
    (folder / "worker-5-1").symlink_to("/etc/passwd")
    os.mkfifo(folder / "worker-6-1")
    (folder / "worker-7-1\n<script>").touch()
    (folder / os.fsdecode(b"\xff\xfe")).touch()
    status, _, text = ask(page)
    assert status == "200 OK"
    assert text.count(" is ignored: ") == 8
    assert "Workers: 1 of 1 run" in text
    assert "<script" not in text
    assert 'wsgi_persist_ignored_files{site="shop"} 8.0' in ask(page, "/metrics")[2]


def test_site_whose_name_is_no_text(scene: Scene, page: StatusPage) -> None:
    scene.worker(os.fsdecode(b"\xff<b>"), 1)
    text = ask(page)[2]
    assert "\\udcff&lt;b&gt;" in text
    assert "Workers: 1 of 1 run" in ask(page, query="site=%ff%3Cb%3E")[2]
    assert ask(page, "/metrics")[0] == "200 OK"


def test_visitors_texts_are_escaped_and_shortened(scene: Scene, page: StatusPage) -> None:
    evil = "GET '/<script>&\"\u202e\x00" + "x" * 4000 + "'"
    told = Event(scene.now, "broke", evil, evil, evil)
    scene.busy("shop", 1, evil, 3, events=[told], leaks=LEAKS)
    text = ask(page)[2]
    assert "<script" not in text
    assert "\u202e" not in text
    assert "\x00" not in text
    assert "/&lt;script&gt;&amp;&quot;\\u202e\\x00xxx" in text
    assert "x" * 200 not in text
    assert ask(page, "/metrics")[0] == "200 OK"


def test_many_who_look_at_once_are_one_reading(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    readings = []
    monkeypatch.setattr("wsgi_persist.status.page.watch.read", lambda folder: readings.append(folder) or [])
    now = [1000.0]
    watch = Watch(scene.folder, clock=lambda: now[0])
    assert watch.reading() is watch.reading()
    now[0] += 1.0
    watch.reading()
    assert len(readings) == 2


def test_nobody_waits_where_reading_takes_long(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as the thread reads; who is left alone by it reads."""
    now = [1000.0]

    def slow(folder: Path) -> list[Any]:
        now[0] += 0.2
        return []

    monkeypatch.setattr("wsgi_persist.status.page.watch.read", slow)
    watch = Watch(scene.folder, clock=lambda: now[0])
    first = watch.look()
    now[0] += 9
    assert watch.reading() is first
    assert watch.look() is not first
    now[0] += 60
    assert watch.reading().time == now[0] - 0.2


def test_charts_show_what_came_in_between(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the end of a worker, too, whose file is gone: the sum of a site does not go down."""
    now = [1000.0]
    watch = Watch(scene.folder, clock=lambda: now[0])
    path = scene.worker("shop", 1, counters=Counters(requests=100))
    watch.look()
    now[0] += 10
    path.unlink()
    scene.worker("shop", 1, counters=Counters(requests=160, replayed_statements=2, replayed_requests=1))
    reading = watch.look()
    (site,) = reading.sites
    assert reading.history.bars(site, lambda sums: sums.requests, now[0])[-2:] == [None, 60]
    assert reading.history.bars(site, lambda sums: sums.replays, now[0])[-1] == 3
    now[0] += 30
    reading = watch.look()
    assert reading.history.bars(site, lambda sums: sums.requests, now[0])[-4:] == [60, None, None, None]


def test_worst_worker_comes_first(scene: Scene, page: StatusPage) -> None:
    scene.worker("shop", 1)
    scene.worker("shop", 2, stopped="script_reload", dead=True)
    scene.busy("shop", 3, "GET '/'", 40)
    scene.busy("shop", 4, "GET '/'", 0.5)
    scene.worker("shop", 5, dead=True)
    scene.out_of_reach("shop", 6, 40)
    text = ask(page)[2]
    words = ["no database", "busy for 4", "killed", "busy for 0", "idle", "stopped: script_reload"]
    places = [text.index(f"</span> {word}") for word in words]
    assert places == sorted(places)


def test_ages_of_connections_are_a_chart(scene: Scene) -> None:
    scene.worker("shop", 1)
    scene.worker("shop", 2)
    (site,) = Watch(scene.folder).reading().sites
    assert len(findings.ages(site, time.time())) == 2


def test_metrics_without_their_package(page: StatusPage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "wsgi_persist.status.page.metrics")
    for name in [name for name in sys.modules if name.partition(".")[0] == "prometheus_client"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    status, headers, text = ask(page, "/metrics")
    assert (status, headers["Content-Type"]) == ("501 Not Implemented", "text/plain; charset=utf-8")
    assert text == "Metrics need the package prometheus-client: pip install 'wsgi-persist[metrics]'\n"


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain", False),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1", True),
        ("application/openmetrics-text;q=0.2,text/plain;q=0.9", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=high", False),
    ],
)
def test_format_of_metrics_is_negotiated(accept: str, openmetrics: bool, page: StatusPage) -> None:
    assert wants_openmetrics(accept) == openmetrics
    _, headers, text = ask(page, "/metrics", HTTP_ACCEPT=accept)
    kind = "application/openmetrics-text" if openmetrics else "text/plain"
    assert headers["Content-Type"].startswith(kind)
    assert text.endswith("# EOF\n") == openmetrics


def test_site_with_the_worst_fault_comes_first(scene: Scene) -> None:
    scene.worker("a", 1)
    scene.worker("b", 2, leaks=LEAKS)
    scene.out_of_reach("c", 3, 60)
    text = ask(StatusPage(scene.folder))[2]
    assert re.findall(r"<h2[^>]*>([abc])</h2>", text) == ["c", "b", "a"]
