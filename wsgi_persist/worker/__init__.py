"""A process or thread and its requests: which pins it keeps, who is inside, how it starts, forks and ends."""

from wsgi_persist.worker.boundary import Boundary, name_of
from wsgi_persist.worker.entrance import WorkerScope
from wsgi_persist.worker.frozen import guard
from wsgi_persist.worker.lifecycle import start, threads_refused
from wsgi_persist.worker.registry import close_idle, process_scope, thread_scope
from wsgi_persist.worker.scope import Scope, all_scopes, current, here
from wsgi_persist.worker.servers import mod_wsgi_daemon, server_name, worker_name
from wsgi_persist.worker.trouble import Trouble
from wsgi_persist.worker.warmup import is_ours
from wsgi_persist.worker.wrappers import find_wrappers_by

__all__ = [
    "Boundary",
    "Scope",
    "Trouble",
    "WorkerScope",
    "all_scopes",
    "close_idle",
    "current",
    "find_wrappers_by",
    "guard",
    "here",
    "is_ours",
    "mod_wsgi_daemon",
    "name_of",
    "process_scope",
    "server_name",
    "start",
    "thread_scope",
    "threads_refused",
    "worker_name",
]
