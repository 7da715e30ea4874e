"""Metrics, alerts and the dashboard, as Prometheus and its promtool take them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import eventually
from tests.page.conftest import Serve
from tests.page.scenes import Scene
from tests.page.test_answers import ask
from tools.machine import SEARCH
from tools.postgres import free_port
from wsgi_persist.status import DEAD, Counters, StatusPage
from wsgi_persist.status.site import read_site
from wsgi_persist.status.snapshot import Totals

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
ALERTS = DEPLOY / "alerts.yml"
DASHBOARD = json.loads((DEPLOY / "grafana.json").read_text())
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def program(name: str) -> str:
    found = shutil.which(name, path=SEARCH)
    if found is None:
        pytest.skip(f"no {name} here: apt-get install prometheus")
    return found


def promtool(*arguments: str | Path, told: str = "") -> str:
    command = [program("promtool"), *map(str, arguments)]
    done = subprocess.run(command, input=told, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def samples(text: str) -> dict[str, float]:
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name.removeprefix("wsgi_persist_"): float(value) for name, _, value in lines}


@pytest.fixture
def page(scene: Scene) -> StatusPage:
    scene.worker("shop", 1, counters=Counters(requests=7, lost={"no_answer": 2}, closed={"max_age": 1}))
    scene.busy("shop", 2, "GET '/'", 42, counters=Counters(requests=5, lost={"no_answer": 1}))
    scene.worker("shop", 3, dead=True, counters=Counters(requests=3))
    scene.out_of_reach("news", 4, 60)
    return StatusPage(scene.folder)


def test_names_and_help_are_as_prometheus_wants_them(page: StatusPage) -> None:
    assert promtool("check", "metrics", told=ask(page, "/metrics")[2]) == ""


def test_numbers(page: StatusPage) -> None:
    found = samples(ask(page, "/metrics")[2])
    assert found['requests_total{site="shop"}'] == 15
    assert found['connections_lost_total{reason="no_answer",site="shop"}'] == 3
    assert found['connections_closed_total{reason="max_age",site="shop"}'] == 1
    assert found['workers{site="shop",state="running"}'] == 2
    assert found['workers{site="shop",state="dead"}'] == 1
    assert found['connections{pin="default",site="shop",state="open"}'] == 2
    assert found['requests_inside{site="shop"}'] == 1
    assert found['slow_workers{site="shop"}'] == 1
    assert 40 < found['longest_request_seconds{site="shop"}'] < 90
    assert found['outage_workers{pin="default",site="news"}'] == 1
    assert found['outage_workers{pin="default",site="shop"}'] == 0
    assert found['answers_503_total{site="news"}'] == 12


def test_every_metric_is_in_the_manual(page: StatusPage) -> None:
    manual = (DEPLOY.parent / "docs" / "page.rst").read_text()
    listed = re.findall(r"^``wsgi_persist_(\w+)``  ", manual, re.MULTILINE)
    assert sorted(listed) == sorted({name.partition("{")[0] for name in samples(ask(page, "/metrics")[2])})


def test_both_formats_say_the_same(page: StatusPage) -> None:
    plain = samples(ask(page, "/metrics")[2])
    other = samples(ask(page, "/metrics", HTTP_ACCEPT="application/openmetrics-text; version=1.0.0")[2])
    assert {name: value for name, value in plain.items() if "_seconds" not in name} == {
        name: value for name, value in other.items() if "_seconds" not in name
    }


def test_workers_that_are_gone_are_counted(scene: Scene) -> None:
    path = scene.worker("shop", 1, counters=Counters(requests=7), dead=True)
    scene.worker("shop", 2, counters=Counters(requests=5))
    before = samples(ask(StatusPage(scene.folder), "/metrics")[2])
    scene.gone("shop", Totals(1, Counters(requests=7), [path.name]))
    path.unlink()
    after = samples(ask(StatusPage(scene.folder), "/metrics")[2])
    name = 'requests_total{site="shop"}'
    assert before[name] == after[name] == 12


def test_alerts_are_rules() -> None:
    assert "SUCCESS" in promtool("check", "rules", ALERTS)


# What an alert needs to be raised, and what is the case while all is well.
RAISED: dict[str, dict[str, str]] = {
    "DatabaseOutOfReach": {'outage_workers{site="shop",pin="default"}': "2x20"},
    "NoWorker": {'workers{site="shop",state="running"}': "0x20", 'slow_workers{site="shop"}': "0x20"},
    "AllWorkersBusy": {'slow_workers{site="shop"}': "4x20", 'workers{site="shop",state="running"}': "4x20"},
    "Answers503": {'answers_503_total{site="shop"}': "0+1x20"},
    "ConnectionsLost": {'connections_lost_total{site="shop",reason="no_answer"}': "0+1x20"},
    "WorkersKilled": {'workers{site="shop",state="dead"}': "1x20"},
    "TransactionsLeftOpen": {'transactions_rolled_back_total{site="shop"}': "0+1x20"},
}
CALM = {
    'outage_workers{site="shop",pin="default"}': "0x20",
    'workers{site="shop",state="running"}': "4x20",
    'workers{site="shop",state="dead"}': "0x20",
    'slow_workers{site="shop"}': "3x20",
    'answers_503_total{site="shop"}': "9x20",
    'connections_lost_total{site="shop",reason="no_answer"}': "9x20",
    'transactions_rolled_back_total{site="shop"}': "9x20",
}


def test_every_alert_is_tried() -> None:
    assert re.findall(r"alert: WsgiPersist(\w+)", ALERTS.read_text()) == list(RAISED)


@pytest.mark.parametrize("alert", [*RAISED, "no other"])
def test_alert_is_raised_alone(alert: str, tmp_path: Path) -> None:
    """After ten minutes with these series, a value each 30 s."""
    own = 'job="page",instance="localhost"'
    series = [
        {"series": f"wsgi_persist_{name[:-1]},{own}}}", "values": values}
        for name, values in {**CALM, **RAISED.get(alert, {})}.items()
    ]
    tried = [
        {
            "expr": f'count(ALERTS{{alertname="WsgiPersist{name}",alertstate="firing"}}) or vector(0)',
            "eval_time": "10m",
            "exp_samples": [{"labels": "{}", "value": int(name == alert)}],
        }
        for name in RAISED
    ]
    test = {"interval": "30s", "input_series": series, "promql_expr_test": tried}
    given = {"rule_files": [str(ALERTS)], "evaluation_interval": "30s", "tests": [test]}
    (tmp_path / "test.yml").write_text(json.dumps(given))
    assert "SUCCESS" in promtool("test", "rules", tmp_path / "test.yml")


def test_dashboard_asks_for_what_there_is(page: StatusPage, tmp_path: Path) -> None:
    there = {name.partition("{")[0] for name in samples(ask(page, "/metrics")[2])}
    rules = ALERTS.read_text()
    for text in (*EXPRESSIONS, rules[rules.index("groups:") :]):
        assert set(re.findall(r"wsgi_persist_(\w+)", text)) <= there
    shown = {name for text in EXPRESSIONS for name in re.findall(r"wsgi_persist_(\w+)", text)}
    assert there - shown == {"ignored_files"}
    filled = [text.replace("$__rate_interval", "5m").replace("$site", ".*") for text in EXPRESSIONS]
    rules = [{"record": f"tried:{number}", "expr": text} for number, text in enumerate(filled)]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", tmp_path / "rules.yml")


@contextmanager
def prometheus(config: dict[str, Any], folder: Path) -> Iterator[int]:
    """One that scrapes, and the port that it listens to."""
    port, file, log = free_port(), folder / "prometheus.yml", folder / "prometheus.log"
    file.write_text(json.dumps(config))
    options = [f"--config.file={file}", f"--storage.tsdb.path={folder}/data"]
    options.append(f"--web.listen-address=127.0.0.1:{port}")
    with log.open("wb") as output:
        process = subprocess.Popen([program("prometheus"), *options], stdout=output, stderr=output)
    try:
        yield port
    finally:
        process.terminate()
        process.wait(20)


def query(port: int, expression: str) -> list[dict[str, Any]]:
    """What Prometheus says to it; nothing while it starts, and to what it refuses."""
    asked = urllib.parse.urlencode({"query": expression})
    try:
        answer = urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query?{asked}", timeout=5)
    except OSError:
        return []
    with answer:
        return list(json.load(answer)["data"]["result"])


def test_prometheus_scrapes_the_page(page: StatusPage, scene: Scene, serve: Serve, tmp_path: Path) -> None:
    """Workers are replaced meanwhile, and no counter goes down."""
    job = {
        "job_name": "wsgi_persist",
        "scrape_interval": "1s",
        "static_configs": [{"targets": [serve(page).removeprefix("http://")]}],
    }
    with prometheus({"scrape_configs": [job], "rule_files": [str(ALERTS)]}, tmp_path) as port:

        def sums() -> dict[str, str]:
            found = query(port, "wsgi_persist_requests_total")
            return {each["metric"]["site"]: each["value"][1] for each in found}

        assert eventually(sums, {"news": "900", "shop": "15"}, timeout=30)
        assert [each["value"][1] for each in query(port, "up")] == ["1"]
        (ended,) = (seen for seen in read_site(scene.folder / "shop").workers if seen.state == DEAD)
        scene.gone("shop", Totals(1, ended.snapshot.counters, [ended.file]))
        (scene.folder / "shop" / ended.file).unlink()
        scene.worker("shop", 5, counters=Counters(requests=1))
        assert eventually(sums, {"news": "900", "shop": "16"}, timeout=30)
        for counter in set(re.findall(r"wsgi_persist_\w+_total", ask(page, "/metrics")[2])):
            assert {each["value"][1] for each in query(port, f"resets({counter}[5m])")} == {"0"}, counter
        for expression in EXPRESSIONS:
            asked = expression.replace("$__rate_interval", "5m").replace("$site", ".*")
            assert query(port, asked), f"the dashboard shows nothing for {asked}"
