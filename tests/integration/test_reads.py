"""What may be sent again, on a real server: its catalogue, an extension's functions, Django's queries."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import Server
from wsgi_persist.sql import QUIET, Classifier, Kind
from wsgi_persist.sql.effects import BUILT_IN_VERDICTS, HARMLESS

VOLATILE = """
    SELECT DISTINCT proname FROM pg_proc
    WHERE pronamespace = 'pg_catalog'::regnamespace AND provolatile = 'v'
"""


def test_no_read_calls_what_the_server_calls_volatile(server: Server) -> None:
    volatile = {name for (name,) in server(VOLATILE)}
    reads = {name for name, verdict in BUILT_IN_VERDICTS.items() if verdict is QUIET}
    assert len(volatile) > 150
    assert reads & volatile <= HARMLESS


@pytest.fixture(scope="module")
def shop(django_site: None) -> Iterator[SimpleNamespace]:
    """Two models with their tables."""
    from django.contrib.postgres.fields import ArrayField, DateTimeRangeField
    from django.db import connection, models

    class Shop(models.Model):
        name = models.CharField(max_length=20)
        tags = ArrayField(models.CharField(max_length=9), default=list)

        class Meta:
            app_label = "reads"

    class Item(models.Model):
        shop = models.ForeignKey(Shop, models.CASCADE)
        at = models.DateTimeField(auto_now_add=True)
        price = models.DecimalField(max_digits=8, decimal_places=2, default=1)
        more = models.JSONField(default=dict)
        span = DateTimeRangeField(null=True)

        class Meta:
            app_label = "reads"

    with connection.schema_editor() as editor:
        editor.create_model(Shop)
        editor.create_model(Item)
    yield SimpleNamespace(Shop=Shop, Item=Item)
    with connection.schema_editor() as editor:
        editor.delete_model(Item)
        editor.delete_model(Shop)
    connection.close()


def sent(work: Any) -> list[tuple[Kind, str]]:
    """What Django sends while that runs, each with its kind."""
    from django.db import connection

    found: list[tuple[Kind, str]] = []
    classify = Classifier()

    def note(execute: Any, sql: str, *rest: Any) -> Any:
        found.append((classify(sql).kind, sql))
        return execute(sql, *rest)

    with connection.execute_wrapper(note):
        work()
    return found


def queries(Shop: Any, Item: Any) -> Iterator[Any]:
    """QuerySets that between them use most of what the ORM can write."""
    from django.contrib.postgres import aggregates, search
    from django.contrib.postgres.expressions import ArraySubquery
    from django.db import models
    from django.db.models import Case, Count, Exists, F, OuterRef, Q, Subquery, Sum, Value, When, Window
    from django.db.models import functions as f

    # Django 6.0 has it for every database, and 6.1 warns of PostgreSQL's own.
    StringAgg = getattr(models, "StringAgg", aggregates.StringAgg)
    items = Item.objects
    mine = items.filter(shop=OuterRef("pk"))
    yield items.all()
    yield items.select_related("shop").filter(shop__name__icontains="a", price__gt=1).order_by("-at")[5:9]
    yield items.filter(Q(shop__name="a") | ~Q(more__b__c=1), at__year=2020, at__date__gt="2020-01-01")
    yield items.filter(more__has_key="a", more__contains={"b": 1}, more__d__0__isnull=True)
    yield items.exclude(price__in=[1, 2]).distinct("shop").order_by("shop")
    yield items.filter(shop__name__iregex="^a", shop__name__regex="b", shop__tags__overlap=["x"])
    yield items.filter(shop__tags__len=1, shop__tags__0="x", span__contains=datetime.now(timezone.utc))
    yield items.values("shop").annotate(n=Count("*"), s=Sum("price", filter=Q(price__gt=1))).filter(n__gt=0)
    yield items.annotate(d=f.TruncDay("at"), y=f.ExtractYear("at"), c=f.Cast("price", models.IntegerField()))
    yield items.annotate(w=Window(f.RowNumber(), partition_by="shop", order_by=F("at").desc())).filter(w=1)
    yield items.annotate(w=Window(Sum("price"), frame=models.RowRange(-1, 0), order_by="at"))
    yield items.annotate(k=Case(When(price=1, then=Value("a")), default=F("shop__name")))
    yield items.annotate(now=f.Now(), r=f.Random(), h=f.MD5("shop__name"), g=f.Greatest("id", 1))
    yield items.annotate(j=f.JSONObject(a="price", b=f.Upper("shop__name")), s=f.Substr("shop__name", 2))
    yield items.annotate(p=f.Power("id", 2), m=F("id") % 2, b=F("id").bitxor(3), l=f.Log(2, 8))
    yield Shop.objects.annotate(e=Exists(mine), a=ArraySubquery(mine.values("id")))
    yield Shop.objects.annotate(last=Subquery(mine.order_by("-at").values("at")[:1])).filter(last=None)
    yield items.values("shop").annotate(x=aggregates.ArrayAgg("price", distinct=True, default=[]))
    yield Shop.objects.annotate(x=StringAgg("name", Value(","), order_by="name"))
    yield Shop.objects.annotate(x=aggregates.JSONBAgg("name"), y=aggregates.BoolOr(Q(name="a")))
    yield Shop.objects.annotate(v=search.SearchVector("name", config="english")).filter(v="a")
    yield Shop.objects.annotate(
        r=search.SearchRank(search.SearchVector("name"), search.SearchQuery("a", search_type="websearch")),
        h=search.SearchHeadline("name", search.SearchQuery("a")),
    )
    yield Shop.objects.values("id").union(items.values("id")).order_by("id")
    yield Shop.objects.values("id").intersection(items.values("id"))
    yield items.dates("at", "month")
    yield items.prefetch_related("shop")
    yield items.filter(pk__in=Shop.objects.filter(name="a").values("pk")).reverse()
    yield items.extra(select={"up": "upper('a')"}, where=["price > %s"], params=[1])
    yield items.raw("SELECT *, price * %s AS double FROM reads_item", [2])


def test_everything_that_the_orm_reads_is_a_read(shop: SimpleNamespace) -> None:
    from django.db.models import Avg

    items = shop.Item.objects

    def work() -> None:
        for query in queries(shop.Shop, shop.Item):
            list(query)
        items.filter(price=1).explain()
        items.aggregate(n=Avg("price"))
        items.in_bulk([items.first().pk])
        assert items.count() == len(list(items.iterator())) == items.exists()

    shop.Item.objects.create(shop=shop.Shop.objects.create(name="a"))
    found = sent(work)
    assert len(found) > 35
    assert [sql for kind, sql in found if kind is not Kind.READ] == []


def test_what_the_orm_writes_may_begin_a_transaction(shop: SimpleNamespace) -> None:
    from django.db import transaction

    def work() -> None:
        one = shop.Shop.objects.create(name="b")
        shop.Item.objects.bulk_create([shop.Item(shop=one), shop.Item(shop=one)])
        shop.Item.objects.filter(shop=one).update(price=2)
        with transaction.atomic():
            list(shop.Item.objects.select_for_update(of=["self"], skip_locked=True, no_key=True))
        shop.Item.objects.filter(shop=one).delete()

    found = sent(work)
    assert {kind for kind, sql in found if not sql.startswith("SELECT")} == {Kind.WRITE}
    locking = [kind for kind, sql in found if "FOR NO KEY UPDATE" in sql]
    assert locking == [Kind.WRITE]
