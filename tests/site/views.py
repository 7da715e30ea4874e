"""One view for each thing that a request can do to its connections."""

import ctypes
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from io import BytesIO, FileIO
from pathlib import Path
from typing import Any

from django.db import connection, connections, transaction
from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path


def scalar(sql: str, params: Any = None, using: str = "default") -> Any:
    with connections[using].cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchone()[0] if cursor.description else None


def backend(using: str = "default") -> int:
    return int(scalar("SELECT pg_backend_pid()", using=using))


def plain(request: HttpRequest) -> HttpResponse:
    return HttpResponse("no query")


def pid(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(backend(request.GET.get("using", "default"))))


def three(request: HttpRequest) -> HttpResponse:
    for _ in range(3):
        scalar("SELECT 1")
    return HttpResponse("three")


def aliases(request: HttpRequest) -> HttpResponse:
    return JsonResponse({alias: backend(alias) for alias in connections})


def databases(request: HttpRequest) -> HttpResponse:
    return JsonResponse({alias: scalar("SELECT current_database()", using=alias) for alias in connections})


def process(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"worker": os.getpid(), "backend": backend()})


def sql(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(scalar(request.GET["sql"])))


def run(request: HttpRequest) -> HttpResponse:
    """Every statement that is given, in autocommit."""
    for statement in request.GET.getlist("sql"):
        scalar(statement)
    return HttpResponse(str(backend()))


def held_cursor(request: HttpRequest) -> HttpResponse:
    """A server-side cursor WITH HOLD, as QuerySet.iterator() opens, that nobody closes."""
    cursor = connection.chunked_cursor()
    cursor.execute("SELECT n FROM generate_series(1, 1000) n")
    cursor.fetchone()
    if "close" in request.GET:
        cursor.close()
    else:
        _abandoned.append(cursor)
    return HttpResponse("held")


_abandoned: list[Any] = []


def session(request: HttpRequest) -> HttpResponse:
    """All that can be seen of the session."""
    return JsonResponse({name: str(scalar(f"SELECT ({query})::text")) for name, query in VISIBLE.items()})


VISIBLE = {
    "settings": """SELECT array_agg((name, setting) ORDER BY name) FROM pg_settings
                   WHERE source = 'session' AND name !~ '^transaction_[ird]'
                   OR name IN ('TimeZone', 'search_path', 'statement_timeout')""",
    "role": "current_user || session_user || current_setting('role')",
    "temporary": "SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()",
    "advisory": "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
    "channels": "SELECT count(*) FROM pg_listening_channels()",
    "prepared": "SELECT count(*) FROM pg_prepared_statements WHERE from_sql",
    "cursors": "SELECT count(*) FROM pg_cursors WHERE is_holdable",
    "custom": "coalesce(current_setting('my.tenant', true), 'null')",
}


def write(request: HttpRequest) -> HttpResponse:
    using = request.GET.get("using", "default")
    scalar("INSERT INTO entry (note) VALUES (%s)", [request.GET["note"]], using)
    return HttpResponse(str(backend(using)))


def write_in_atomic(request: HttpRequest) -> HttpResponse:
    with transaction.atomic():
        return write(request)


def manual_transaction(request: HttpRequest) -> HttpResponse:
    """Autocommit switched off, a row inserted, neither committed nor switched on again."""
    transaction.set_autocommit(False)
    return write(request)


def raw_begin(request: HttpRequest) -> HttpResponse:
    scalar("BEGIN")
    return write(request)


def raw_begin_failed(request: HttpRequest) -> HttpResponse:
    scalar("BEGIN")
    write(request)
    try:
        scalar("SELECT 1/0")
    except Exception:
        return HttpResponse("failed transaction left open")
    return HttpResponse("unreachable", status=500)


def on_commit_lost(request: HttpRequest) -> HttpResponse:
    """An atomic block that is entered and never left."""
    block = transaction.atomic()
    block.__enter__()
    connection.on_commit(lambda: scalar("INSERT INTO entry (note) VALUES ('hook')", using="default"))
    return write(request)


def fail(request: HttpRequest) -> HttpResponse:
    backend()
    raise ValueError("the view fails")


def close(request: HttpRequest) -> HttpResponse:
    before = backend()
    connection.close()
    return JsonResponse({"before": before, "after": backend()})


def close_before_use(request: HttpRequest) -> HttpResponse:
    connections.close_all()
    return HttpResponse(str(backend()))


def sleep(request: HttpRequest) -> HttpResponse:
    scalar("SELECT pg_sleep(%s)", [float(request.GET["seconds"])])
    return HttpResponse(str(backend()))


def write_slowly(request: HttpRequest) -> HttpResponse:
    """Two statements with a pause in the database between them, and one after both."""
    with transaction.atomic():
        scalar("SELECT pg_sleep(1)")
        return write(request)


def killed(request: HttpRequest) -> HttpResponse:
    """As the kernel does when memory runs out: no handler, no clean-up, no last word."""
    os.kill(backend() and os.getpid(), signal.SIGKILL)
    return HttpResponse("survived")


def deadlocked(request: HttpRequest) -> HttpResponse:
    """As a bug in a library in C: no other thread gets to run Python."""
    backend()
    ctypes.PyDLL(None).sleep(600)
    return HttpResponse("nobody stopped it")


def exhaust_memory(request: HttpRequest) -> HttpResponse:
    backend()
    hoard = []
    try:
        while True:
            hoard.append(bytearray(1 << 26))
    except MemoryError:
        hoard.clear()
        return HttpResponse("out of memory", status=507)


def query_for_ever(request: HttpRequest) -> HttpResponse:
    """Short queries in a transaction until somebody stops it."""
    with transaction.atomic():
        write(request)
        give_up = time.monotonic() + 20
        while time.monotonic() < give_up:
            scalar("SELECT count(*) FROM generate_series(1, 500)")
    return HttpResponse("nobody stopped it")


def padding(request: HttpRequest) -> str:
    return " " * int(request.GET.get("padding", 0))


def stream(request: HttpRequest) -> HttpResponse:
    def chunks() -> Iterator[str]:
        for _ in range(int(request.GET.get("pieces", 3))):
            yield f"{backend()} {padding(request)}"

    return StreamingHttpResponse(chunks())


def stream_from_cursor(request: HttpRequest) -> HttpResponse:
    """Rows from a server-side cursor inside a transaction, a chunk each."""

    def chunks() -> Iterator[str]:
        with transaction.atomic(), connection.chunked_cursor() as cursor:
            cursor.execute("SELECT n FROM generate_series(1, 100000) n")
            while rows := cursor.fetchmany(100):
                yield f"{rows[0][0]}{padding(request)}\n"

    return StreamingHttpResponse(chunks())


def file(request: HttpRequest) -> HttpResponse:
    backend()
    if name := request.GET.get("name"):
        return FileResponse(Path(name).open("rb"))
    return FileResponse(BytesIO(b"a file"))


class WatchedFile(FileIO):
    """Tells in the log how often it was read through Python when it is closed."""

    reads = 0

    def read(self, *size: int) -> Any:
        self.reads += 1
        return super().read(*size)

    def close(self) -> None:
        if not self.closed:
            logging.getLogger("wsgi_persist.tests").warning("file closed after %d reads", self.reads)
        super().close()


def file_sent_by_server(request: HttpRequest) -> HttpResponse:
    return FileResponse(WatchedFile(request.GET["name"]))


def threads(request: HttpRequest) -> HttpResponse:
    """The view's own thread queries beside it."""
    found: dict[str, int] = {}

    def work() -> None:
        found["thread"] = backend()
        connections.close_all()

    found["request"] = backend()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return JsonResponse({**found, "again": backend()})


def fork(request: HttpRequest) -> HttpResponse:
    """A child that closes every connection and then works on one of its own."""
    before = backend()
    child = os.fork()
    if child == 0:
        _in_child(lambda: connections.close_all())
    _, status = os.waitpid(child, 0)
    return JsonResponse({"before": before, "after": backend(), "child": os.waitstatus_to_exitcode(status)})


def fork_and_query(request: HttpRequest) -> HttpResponse:
    before = backend()
    child = os.fork()
    if child == 0:
        _in_child(lambda: backend() != before or os._exit(3))
    _, status = os.waitpid(child, 0)
    return JsonResponse({"before": before, "after": backend(), "child": os.waitstatus_to_exitcode(status)})


def _in_child(work: Callable[[], Any]) -> None:
    try:
        work()
        os._exit(0)
    except BaseException:
        os._exit(1)


def nested(request: HttpRequest) -> HttpResponse:
    """The WSGI application called inside a request."""
    from wsgiref.util import setup_testing_defaults

    from tests.site.wsgi import application

    environ: dict[str, Any] = {"PATH_INFO": "/pid/"}
    setup_testing_defaults(environ)
    environ["wsgi.multithread"] = request.META["wsgi.multithread"]
    response = application(environ, lambda *args: lambda data: None)
    inner = b"".join(response).decode()
    response.close()  # type: ignore[attr-defined]
    return JsonResponse({"inner": int(inner), "outer": backend()})


def busy(request: HttpRequest) -> HttpResponse:
    """Answers with its backend after some time in Python, to overlap with other requests."""
    first = backend()
    time.sleep(float(request.GET.get("seconds", "0.01")))
    where = {"worker": os.getpid(), "thread": threading.get_ident()}
    return JsonResponse({**where, "first": first, "second": backend()})


_VIEWS: list[Callable[..., HttpResponse]] = [
    plain, pid, three, aliases, databases, process, sql, run, held_cursor, session,
    write, write_slowly, write_in_atomic, query_for_ever, killed, deadlocked, exhaust_memory,
    manual_transaction, raw_begin, raw_begin_failed, on_commit_lost, fail, close, close_before_use,
    sleep, stream, stream_from_cursor, file, file_sent_by_server, threads, fork, fork_and_query, nested, busy,
]  # fmt: skip
urlpatterns = [path(f"{view.__name__.replace('_', '-')}/", view) for view in _VIEWS]
