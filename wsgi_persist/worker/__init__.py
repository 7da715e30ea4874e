"""A process or thread and its requests: which pins it keeps, who is inside, how it starts, forks and ends."""

from wsgi_persist.worker.boundary import Boundary, name_of
from wsgi_persist.worker.entrance import WorkerScope
from wsgi_persist.worker.lifecycle import start, threads_refused
from wsgi_persist.worker.registry import close_idle, process_scope, thread_scope
from wsgi_persist.worker.scope import Scope, current
from wsgi_persist.worker.servers import worker_name
from wsgi_persist.worker.trouble import Trouble
from wsgi_persist.worker.warmup import is_ours
from wsgi_persist.worker.wrappers import find_wrappers_by

__all__ = [
    "Boundary",
    "Scope",
    "Trouble",
    "WorkerScope",
    "close_idle",
    "current",
    "find_wrappers_by",
    "is_ours",
    "name_of",
    "process_scope",
    "start",
    "thread_scope",
    "threads_refused",
    "worker_name",
]
