"""`make picture`: the page of the demonstration's workers in Chromium, for the README.

Two workers serve for two minutes. PostgreSQL is away for some seconds meanwhile, and a worker is killed.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from tools import environment, load
from tools.apache import Apache, ApacheError
from tools.browser import BrowserError, browser
from tools.demo import DATABASE, PAGE, VARIANTS, Demo, running, started
from tools.postgres import free_port
from tools.steps import alone, ended, say

PICTURE = environment.ROOT / "docs" / "figures" / "status.png"
SECONDS = 120.0
AWAY = 8.0  # longer than a request waits for the database
WIDTH, HEIGHT = 1280, 860


def visit(url: str, until: float) -> None:
    while time.monotonic() < until:
        load.run(url, clients=1, seconds=0.1)
        time.sleep(0.1)


def show(home: Path) -> None:
    os.umask(0o022)
    home.mkdir(exist_ok=True)
    wait = "the demonstration of this clone is running: its end is waited for"
    with alone(home, lambda: say(wait)), running(home, free_port()) as (demo, stack):
        demo.prepare()
        take(demo, stack)


def take(demo: Demo, stack: ExitStack) -> None:
    server = started(demo.apache(list(VARIANTS)[1], demo.port, shown=True), stack)
    say(f"{SECONDS:g} s of requests, without PostgreSQL for {AWAY:g} s of them")
    visits = (f"{server.url}/three/", time.monotonic() + SECONDS)
    visitors = [threading.Thread(target=visit, args=visits, daemon=True) for _ in range(2)]
    for visitor in visitors:
        visitor.start()
    harm(demo, server)
    with browser() as chromium:
        chromium.show(server.url + PAGE, width=WIDTH, height=HEIGHT)
        chromium.picture(PICTURE, whole=False)
    for visitor in visitors:
        visitor.join()
    print(PICTURE)


def harm(demo: Demo, server: Apache) -> None:
    time.sleep(SECONDS / 2)
    demo.cluster.stop()
    time.sleep(AWAY)
    demo.cluster.start()
    time.sleep(SECONDS / 4)
    files = (demo.status / DATABASE).glob("worker-*")
    os.kill(int(next(files).name.split("-")[1]), signal.SIGKILL)
    time.sleep(SECONDS / 4 - AWAY - 5)


def main() -> int:
    def work() -> int:
        show(environment.folder() / "demo")
        return 0

    return ended("picture", environment.folder(), work, ApacheError, BrowserError, RuntimeError)


if __name__ == "__main__":
    sys.exit(main())
