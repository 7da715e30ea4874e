"""Pages for the fault tests: what they read is known, what they write bears the request's id.

With ATOMIC_REQUESTS on, those named ``..._atomic`` run in a transaction and the others do not.
"""

from __future__ import annotations

import os
import time

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import path

from tests.site.views import scalar

LEDGER = "CREATE TABLE IF NOT EXISTS ledger (id text NOT NULL)"
INSERT = "INSERT INTO ledger (id) VALUES (%s)"


def read_atomic(request: HttpRequest) -> HttpResponse:
    return HttpResponse(" ".join(str(scalar(f"SELECT {number}")) for number in (1, 2, 3)))


@transaction.non_atomic_requests
def read(request: HttpRequest) -> HttpResponse:
    return read_atomic(request)


@transaction.non_atomic_requests
def read_slowly(request: HttpRequest) -> HttpResponse:
    """The same, with a long statement among them."""
    scalar("SELECT pg_sleep(%s)", [float(request.GET["seconds"])])
    return read_atomic(request)


@transaction.non_atomic_requests
def count(request: HttpRequest) -> HttpResponse:
    """How many writes whose id begins so are in the ledger."""
    return HttpResponse(
        str(scalar("SELECT count(*) FROM ledger WHERE id LIKE %s", [request.GET["of"] + "%"]))
    )


def write_atomic(request: HttpRequest) -> HttpResponse:
    scalar("SELECT 1")
    scalar(INSERT, [request.POST["id"]])
    return HttpResponse(request.POST["id"])


@transaction.non_atomic_requests
def write(request: HttpRequest) -> HttpResponse:
    return write_atomic(request)


@transaction.non_atomic_requests
def worker(request: HttpRequest) -> HttpResponse:
    """Which process answers; slow enough that several who ask at once meet several."""
    time.sleep(0.05)
    return HttpResponse(str(os.getpid()))


@transaction.non_atomic_requests
def no_query(request: HttpRequest) -> HttpResponse:
    return HttpResponse("no query")


_VIEWS = [read, read_atomic, read_slowly, count, write, write_atomic, worker, no_query]
urlpatterns = [path(f"faults/{view.__name__.replace('_', '-')}/", view) for view in _VIEWS]
