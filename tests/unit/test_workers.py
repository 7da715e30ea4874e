"""How many workers the environment announces."""

from __future__ import annotations

import pytest

from wsgi_persist.backends.checks.workers import Workers, announced, unreadable


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, Workers(None, None)),
        ({"PERSIST_PROCESSES": "8", "PERSIST_THREADS": "2"}, Workers(8, 2)),
        ({"PERSIST_PROCESSES": "8", "WEB_CONCURRENCY": "4"}, Workers(8, None)),
        ({"WEB_CONCURRENCY": "4", "GUNICORN_CMD_ARGS": "--workers=3"}, Workers(4, None)),
        ({"GUNICORN_CMD_ARGS": "--workers=3 --threads 5 --preload"}, Workers(3, 5)),
        ({"GUNICORN_CMD_ARGS": "-w 3"}, Workers(3, None)),
        ({"GUNICORN_CMD_ARGS": "-w3 --bind=unix:x"}, Workers(3, None)),
        ({"PERSIST_PROCESSES": "0", "WEB_CONCURRENCY": "-1"}, Workers(None, None)),
    ],
)
def test_announced(environ: dict[str, str], wanted: Workers) -> None:
    assert announced(environ) == wanted


def test_unreadable() -> None:
    environ = {"PERSIST_PROCESSES": "0", "PERSIST_THREADS": "", "WEB_CONCURRENCY": "4 or 5"}
    assert unreadable(environ) == {"PERSIST_PROCESSES": "0"}
