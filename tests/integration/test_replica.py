"""The recipe for reads from a standby: deploy/patroni/router.py with a pin for each of two aliases."""

from __future__ import annotations

import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from webtest import TestApp

from tests.conftest import SCHEMA, eventually
from tests.faults.standby import Standby, query
from tests.serving import ROOT
from tests.site.extra import extra_view
from tools.postgres import Cluster
from wsgi_persist.worker import registry

ALIASES = {"default": "read-write", "replica": "prefer-standby"}
Visit = Callable[..., str]


@pytest.fixture
def primary(root: Path) -> Iterator[Cluster]:
    # Both stop at once, whatever the other still sends.
    cluster = Cluster(root / "primary", ["fsync=off"]).create().start()
    query(cluster, "CREATE DATABASE site")
    query(cluster, SCHEMA, "site")
    yield cluster
    cluster.destroy()


@pytest.fixture
def standby(primary: Cluster, root: Path) -> Iterator[Standby]:
    standby = Standby(primary, root / "standby").create()
    standby.start()
    standby.catch_up()
    yield standby
    standby.destroy()


@pytest.fixture
def router() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "deploy" / "patroni" / "router.py"))


@pytest.fixture
def entries(router: dict[str, Any], site: TestApp, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A model's rows, by that router."""
    from django import db
    from django.apps import apps

    class Entry(db.models.Model):
        note = db.models.TextField()

        class Meta:
            app_label = "replica"
            db_table = "entry"

    monkeypatch.setattr(db.router, "_routers", [router["ReadsFromStandby"]()])
    monkeypatch.delitem(db.router.__dict__, "routers", raising=False)
    yield Entry.objects
    del apps.all_models["replica"]["entry"]
    monkeypatch.undo()
    db.router.__dict__.pop("routers", None)


@pytest.fixture
def visit(entries: Any, primary: Cluster, standby: Standby, router: dict[str, Any], site: TestApp) -> Any:
    """A request whose view does this; its answer."""
    from django.db import connections
    from django.http import HttpResponse

    before = {alias: connections.settings.get(alias) for alias in ALIASES}
    both = {
        "HOST": f"{primary.socket_dir},{standby.socket_dir}",
        "PORT": f"{primary.port},{standby.port}",
    }
    for alias, wanted in ALIASES.items():
        options = {"OPTIONS": {"target_session_attrs": wanted}}
        connections.settings[alias] = {**before["default"], **both, **options}
    forget()

    def visit(work: Callable[[], Any], method: str = "GET") -> str:
        view = router["reads_its_own_writes"](lambda request: HttpResponse(str(work())))
        with extra_view(view):
            return str(site.request("/extra/", method=method).text)

    yield visit
    forget()
    for alias, settings in before.items():
        if settings is None:
            del connections.settings[alias]
        else:
            connections.settings[alias] = settings


def forget() -> None:
    from django.db import connections

    for alias in ALIASES:
        # Outside a request that closes the idle pin, too.
        connections[alias].close()
        del connections[alias]
        registry.process_scope().pins.pop(alias, None)


def where(entries: Any) -> str:
    """Whether the server that is read from is a standby, and the session."""
    from django.db import connections

    with connections[entries.all().db].cursor() as cursor:
        cursor.execute("SELECT pg_is_in_recovery(), pg_backend_pid()")
        return "{} {}".format(*cursor.fetchone())


def test_reads_come_from_the_standby_by_a_pin_of_their_own(entries: Any, visit: Visit) -> None:
    first = visit(lambda: where(entries))
    assert first.startswith("True")
    assert visit(lambda: where(entries)) == first
    assert visit(lambda: where(entries), "POST").startswith("False")


def test_a_request_reads_what_it_wrote_and_so_does_the_next(
    entries: Any, visit: Visit, site: TestApp, standby: Standby
) -> None:
    query(standby, "SELECT pg_wal_replay_pause()")

    def write_and_count() -> int:
        entries.create(note="new")
        return int(entries.count())

    assert visit(lambda: entries.count()) == "0"
    assert visit(write_and_count) == "1"
    assert visit(lambda: entries.count()) == "1", "by the cookie"
    site.reset()
    assert visit(lambda: entries.count()) == "0", "another visitor sees what the standby has"
    query(standby, "SELECT pg_wal_replay_resume()")
    assert eventually(lambda: visit(lambda: entries.count()), "1")


def test_a_standby_that_is_promoted_goes_on_answering(
    entries: Any, visit: Visit, standby: Standby, primary: Cluster
) -> None:
    before = visit(lambda: where(entries)).split()
    primary.stop()
    standby.promote()
    assert visit(lambda: where(entries)).split() == ["False", before[1]]
    visit(lambda: entries.create(note="to the new leader").pk, "POST")
    assert query(standby, "SELECT count(*) FROM entry", "site") == "1"


def test_without_a_standby_reads_come_from_the_leader(entries: Any, visit: Visit, standby: Standby) -> None:
    assert visit(lambda: where(entries)).startswith("True")
    standby.stop()
    assert visit(lambda: where(entries)).startswith("False")
