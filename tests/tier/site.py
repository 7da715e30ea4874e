"""The site of the tests on the cluster: ours or stock, by all hosts or through the pooler."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.stage import KEPT, OURS, Variant, require_start
from tests.served import public_project
from tests.tier.cluster import PatroniCluster
from tests.tier.front import PASSWORD, POOLER_PORT, USER
from tools.apache import Apache, public_folder

WORKERS = 4
# What database.py of deploy's folders says.
BY_HOSTS: Mapping[str, Any] = {"reconnect_deadline": 10.0}
POOLED: Mapping[str, Any] = {"pooler": "transaction", "reconnect_deadline": 10.0}


@dataclass(frozen=True)
class Route:
    """How a worker reaches the leader."""

    name: str
    port: int
    database: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    persist: Mapping[str, Any] = field(default_factory=dict)

    def environment(self, variant: Variant, host: str, driver: str) -> dict[str, str]:
        database = {
            "NAME": USER,
            "USER": USER,
            "PASSWORD": PASSWORD,
            "ATOMIC_REQUESTS": True,
            **self.database,
            **variant.database,
        }
        options = dict(self.options)
        if variant.persist is not None:
            options["persist"] = {**self.persist, **variant.persist}
        return {
            **variant.environment,
            "SITE_DRIVER": driver,
            "SITE_HOST": host,
            "SITE_PORT": str(self.port),
            "SITE_DATABASE": json.dumps(database),
            "SITE_OPTIONS": json.dumps(options),
            "SITE_ALIASES": "{}",
            "DJANGO_SETTINGS_MODULE": "tests.site.settings",
        }


HOSTS = Route("hosts", 5432, {}, {"target_session_attrs": "read-write"}, BY_HOSTS)
POOLER = Route("pooler", POOLER_PORT, {"DISABLE_SERVER_SIDE_CURSORS": True}, {}, POOLED)
# Stock Django keeps its connections, and checks each before a request.
VARIANTS = {"ours": OURS, "stock": KEPT}


@dataclass
class Site:
    name: str
    variant: Variant
    route: Route
    apache: Apache


@contextmanager
def served(cluster: PatroniCluster, variant: str, route: Route, driver: str) -> Iterator[Site]:
    """Once each worker answers."""
    host = cluster.addresses if route is HOSTS else cluster.bridge.address
    root = public_folder("apache")
    try:
        with public_project() as project, _apache(root, project, variant, route, host, driver) as apache:
            require_start(apache)
            yield Site(f"{variant}, {route.name}", VARIANTS[variant], route, apache)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _apache(root: Path, project: Path, variant: str, route: Route, host: str, driver: str) -> Apache:
    return Apache(
        root,
        defines={"PERSIST_PROJECT": str(project), "PERSIST_PROCESSES": str(WORKERS)},
        environ=route.environment(VARIANTS[variant], host, driver),
        mpm="event",
    )
