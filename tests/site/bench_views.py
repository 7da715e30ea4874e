"""Pages for the benchmark, outside of transactions even where ATOMIC_REQUESTS is on."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections import Counter

from django.db import connection, connections, models, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from tests.site.views import backend, scalar


class Entry(models.Model):
    note = models.TextField()

    class Meta:
        app_label = "site"
        db_table = "entry"
        managed = False


@transaction.non_atomic_requests
def orm(request: HttpRequest) -> HttpResponse:
    """One row, ten rows, a count."""
    one = Entry.objects.get(pk=1)
    ten = list(Entry.objects.filter(pk__lte=10).order_by("pk"))
    return HttpResponse(f"{one.note}, {len(ten)} of {Entry.objects.count()}")


@transaction.non_atomic_requests
def three(request: HttpRequest) -> HttpResponse:
    """Of any alias."""
    using = request.GET["using"]
    return HttpResponse(" ".join(str(scalar("SELECT 1", using=using)) for _ in range(3)))


@transaction.non_atomic_requests
def warm(request: HttpRequest) -> HttpResponse:
    """Which process answers, now that it is connected; slow, so that several asked at once are several."""
    for alias in connections:
        scalar("SELECT 1", using=alias)
    time.sleep(0.05)
    return HttpResponse(str(os.getpid()))


@transaction.non_atomic_requests
def each_alias(request: HttpRequest) -> HttpResponse:
    return HttpResponse(" ".join(str(scalar("SELECT 1", using=alias)) for alias in connections))


@transaction.non_atomic_requests
def census(request: HttpRequest) -> HttpResponse:
    """What Python keeps, when all garbage is gone: objects by their type (those that may hold others, as
    the collector knows no other) and blocks of memory, of all."""
    gc.collect()
    types = Counter(f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.get_objects())
    found = {"types": types, "blocks": sys.getallocatedblocks(), "backend": backend()}
    return JsonResponse(found)


def write(request: HttpRequest) -> HttpResponse:
    """In the block of the request."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE entry SET note = %s WHERE id = %s", ["again", 1])
        return HttpResponse(str(cursor.rowcount))


def nested_write(request: HttpRequest) -> HttpResponse:
    """In a block of its own within that of the request."""
    with transaction.atomic():
        return write(request)


_VIEWS = [orm, write, nested_write, three, warm, each_alias, census]
urlpatterns = [path(f"bench/{view.__name__.replace('_', '-')}/", view) for view in _VIEWS]
