"""Django in this process, with the site's middleware around it."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from webtest import TestApp

from tests.conftest import Server, site_environment
from tests.integration.relay import Relay
from tests.site.extra import extra_alias
from tools.apache import public_folder
from tools.postgres import Cluster
from wsgi_persist.worker import registry


@pytest.fixture(scope="session")
def django_site(site_database: Cluster, tls_port: int) -> Iterator[None]:
    tls = {"HOST": "127.0.0.1", "PORT": tls_port, "OPTIONS": {"sslmode": "require"}}
    tcp = {"HOST": "127.0.0.1", "OPTIONS": {"sslmode": "disable"}}
    aliases = {"other": {}, "second": {"name": "second"}, "tcp": tcp, "tls": tls}
    os.environ.update(site_environment(site_database, SITE_ALIASES=json.dumps(aliases)))
    import django

    django.setup()
    yield
    # It writes to a stream of pytest's, which is closed before the process ends.
    logging.getLogger("wsgi_persist").handlers.clear()


@pytest.fixture
def site(django_site: None, server: Server) -> Iterator[TestApp]:
    """The wrapped site as a client; every test begins and ends without a pin."""
    from django.db import connections

    from tests.site.wsgi import application

    _close_all_pins()
    server.mark()
    yield TestApp(application, extra_environ={"wsgi.multithread": False})
    connections.close_all()
    _close_all_pins()


def _close_all_pins() -> None:
    for scope in (registry.process_scope(), registry.thread_scope()):
        assert scope.owner is None, "a test left a request open"
        for pin in scope.pins.values():
            if pin.connection is not None:
                pin.drop("the test is over")


@pytest.fixture
def pid_of(site: TestApp) -> Callable[..., int]:
    return lambda **given: int(site.get("/pid/", **given).text)


@pytest.fixture
def pinned(site: TestApp) -> Callable[[str], Any]:
    """The pinned connection of an alias in the process scope."""
    return lambda alias="default": registry.process_scope().pins[alias]


@pytest.fixture
def relay(server: Server, tls_port: int, request: pytest.FixtureRequest) -> Iterator[Relay]:
    """By TCP, or as the test's parameter *way* says: ``"unix"``, ``"tls"``."""
    way = getattr(request.node, "callspec", None) and request.node.callspec.params.get("way")
    folder = public_folder("relay") if way == "unix" else None
    relay = Relay(tls_port if way == "tls" else server.cluster.port, folder)
    yield relay
    relay.close()
    relay.join(5.0)
    assert not relay.is_alive()
    if folder is not None:
        shutil.rmtree(folder)


@pytest.fixture
def far(site: TestApp, relay: Relay) -> Iterator[Callable[..., None]]:
    """Defines the alias by these options."""
    with extra_alias("far") as settings:

        def define(sslmode: str = "disable", **persist: Any) -> None:
            settings(HOST=relay.host, PORT=relay.port, OPTIONS={"sslmode": sslmode, "persist": persist})

        yield define
