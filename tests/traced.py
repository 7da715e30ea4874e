"""A site under a tracing tool, in a process of its own, as what they patch stays patched.

Prints as JSON what its requests saw.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

spans: list[str] = []
around: Any = nullcontext  # what the tool needs to show statements
texts: list[str] = []  # of statements, as the tool shows them, where it can be asked


def ddtrace(driver: str) -> None:
    os.environ.update(DD_INSTRUMENTATION_TELEMETRY_ENABLED="false", DD_REMOTE_CONFIGURATION_ENABLED="false")
    from ddtrace import patch
    from ddtrace.trace import TraceFilter, tracer

    class Keep(TraceFilter):
        def process_trace(self, trace: Any) -> None:
            spans.extend(span.name for span in trace)  # and nothing is sent
            texts.extend(span.resource for span in trace)

    tracer.configure(trace_processors=[Keep()])
    patch(psycopg=True, django=True)


def elasticapm(driver: str) -> None:
    import elasticapm

    elasticapm.instrument()


def newrelic(driver: str) -> None:
    # The latter traces as ever, and sends nothing.
    os.environ.update(NEW_RELIC_MONITOR_MODE="false", NEW_RELIC_DEVELOPER_MODE="true", NEW_RELIC_LOG="stderr")
    import newrelic.agent

    newrelic.agent.initialize()


def opentelemetry(driver: str) -> None:
    from importlib import import_module

    from opentelemetry import trace
    from opentelemetry.instrumentation.django import DjangoInstrumentor
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

    class Keep(SpanProcessor):
        def on_end(self, span: Any) -> None:
            texts.extend(str(value) for key, value in span.attributes.items() if key.startswith("db."))

    provider = TracerProvider()
    provider.add_span_processor(Keep())
    trace.set_tracer_provider(provider)
    found = import_module(f"opentelemetry.instrumentation.{driver}")
    getattr(found, f"{driver.capitalize()}Instrumentor")().instrument(enable_commenter=True)
    DjangoInstrumentor().instrument()


def sentry_sdk(driver: str) -> None:
    import sentry_sdk
    from sentry_sdk.integrations.django import DjangoIntegration
    from sentry_sdk.transport import Transport

    class Nowhere(Transport):
        def capture_envelope(self, envelope: Any) -> None:
            for item in envelope.items:
                texts.extend(span["description"] or "" for span in (item.payload.json or {}).get("spans", []))

    sentry_sdk.init(
        "http://key@127.0.0.1:9/1",
        transport=Nowhere,
        traces_sample_rate=1.0,
        integrations=[DjangoIntegration()],
    )
    global around
    around = lambda: sentry_sdk.start_transaction(op="test", name="test")  # noqa: E731


TOOLS = {tool.__name__: tool for tool in (ddtrace, elasticapm, newrelic, opentelemetry, sentry_sdk)}


def visit(work: Callable[[], Any]) -> Any:
    from wsgi_persist import PersistMiddleware

    found = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        found.append(work())
        start_response("200 OK", [])
        return [b""]

    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "SCRIPT_NAME": "", "wsgi.multithread": False}
    response: Any = PersistMiddleware(app)(environ, lambda *given: None)
    try:
        list(response)
    finally:
        response.close()
    return found[0]


def query(sql: str) -> Any:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0] if cursor.description else None


def pid() -> int:
    return int(query("SELECT pg_backend_pid()"))


def leave() -> int:
    query("SET work_mem = '77MB'")
    return pid()


def lose() -> tuple[int, int, int]:
    from django.db import connection, transaction

    def end(backend: int) -> None:
        other = connection.copy()
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [backend])
        other.close()

    first = pid()
    end(first)
    second = pid()
    end(second)
    with transaction.atomic():
        return first, second, pid()


def in_a_block() -> int:
    from django.db import transaction

    with around(), transaction.atomic(), transaction.atomic():
        return int(query("SELECT 17"))


def modules() -> list[str]:
    """Whose the objects are that a statement goes through."""
    from django.db import connection
    from django.db.backends.utils import CursorWrapper

    connection.ensure_connection()
    with connection.connection.cursor() as cursor:
        kinds = [*type(connection.connection).__mro__, *type(cursor).__mro__]
    # What is put in a function's place bears its name, but has the globals of its own module.
    names = [kind.__module__ for kind in kinds] + [CursorWrapper.execute.__globals__["__name__"]]
    return sorted({name.partition(".")[0] for name in names})


def fork() -> int:
    """The backend of a child's request."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, str(visit(pid)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading) as end:
        return int(end.read() or 0)


def main(tool: str, driver: str) -> None:
    if driver == "psycopg2":
        sys.modules["psycopg"] = None  # type: ignore[assignment]
    TOOLS[tool](driver)
    import django

    django.setup()
    seen: dict[str, Any] = {"left": visit(leave), "reset": visit(lambda: (pid(), query("SHOW work_mem")))}
    time.sleep(0.1)  # longer than idle_check
    seen.update(pinged=visit(pid), lost=visit(lose))
    seen.update(before=visit(pid), child=fork(), after=visit(pid))
    seen.update(folded=visit(in_a_block), modules=visit(modules))
    print(json.dumps({**seen, "spans": spans, "texts": texts}))


if __name__ == "__main__":
    main(*sys.argv[1:])
