"""How many workers there will be, as far as the environment of ``manage.py check`` says."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import NamedTuple

# Named as in the Apache file; what gunicorn reads comes after them.
PROCESSES = ("PERSIST_PROCESSES", "WEB_CONCURRENCY")
THREADS = ("PERSIST_THREADS",)
_GUNICORN = {
    "processes": r"(?:--workers[ =]|-w ?)(\d+)",
    "threads": r"--threads[ =](\d+)",
}


class Workers(NamedTuple):
    """None where nothing says how many."""

    processes: int | None
    threads: int | None


def announced(environ: Mapping[str, str] = os.environ) -> Workers:
    return Workers(_number("processes", PROCESSES, environ), _number("threads", THREADS, environ))


def unreadable(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Variables of ours that should be numbers and are not; WEB_CONCURRENCY is other tools', too."""
    ours = (name for name in (*PROCESSES, *THREADS) if name.startswith("PERSIST_"))
    given = {name: environ[name] for name in ours if environ.get(name)}
    return {name: value for name, value in given.items() if _whole(value) is None}


def _number(what: str, names: tuple[str, ...], environ: Mapping[str, str]) -> int | None:
    told = re.search(_GUNICORN[what], environ.get("GUNICORN_CMD_ARGS", ""))
    candidates = [*(environ.get(name, "") for name in names), told[1] if told else ""]
    return next((number for text in candidates if (number := _whole(text)) is not None), None)


def _whole(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[1-9][0-9]{0,8}", text) else None
