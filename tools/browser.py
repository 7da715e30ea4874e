"""Chromium without a window, told what to do over a pipe; nothing but the browser is needed.

It speaks the DevTools protocol (https://chromedevtools.github.io/devtools-protocol/): JSON, and a zero byte
behind each message.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools.machine import SEARCH
from tools.steps import undisturbed

NAMES = ("chromium", "chromium-browser", "google-chrome")
LACKING = "no Chromium here: apt-get install chromium"
PATIENCE = 30  # seconds
OPTIONS = (
    "--headless",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
)


def program() -> str | None:
    return next((found for name in NAMES if (found := shutil.which(name, path=SEARCH))), None)


class BrowserError(RuntimeError):
    """What Chromium did not like."""


class Browser:
    """One page of one Chromium."""

    def __init__(self, requests: int, answers: int) -> None:
        self._requests = requests
        self._answers = answers
        self._number = 0
        self._rest = b""
        self.events: list[dict[str, Any]] = []
        self._session: str | None = None
        target = self.tell("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.tell("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Log", "Network", "Runtime"):
            self.tell(f"{domain}.enable")

    def tell(self, method: str, **params: Any) -> Any:
        """A command, and its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._requests, json.dumps(message).encode() + b"\0")
        while True:
            found = self._message()
            if found.get("id") == self._number:
                if "error" in found:
                    raise BrowserError(f"{method}: {found['error']['message']}")
                return found["result"]
            self.events.append(found)

    def show(self, url: str, width: int = 1280, height: int = 900, scheme: str = "light") -> None:
        """Once it is loaded."""
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        self.tell("Emulation.setEmulatedMedia", features=media)
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.tell("Emulation.setDeviceMetricsOverride", **size)
        self.events.clear()
        failed = self.tell("Page.navigate", url=url).get("errorText")
        if failed:
            raise BrowserError(f"{url}: {failed}")
        self.wait_for("Page.loadEventFired")

    def wait_for(self, event: str) -> None:
        while not any(found.get("method") == event for found in self.events):
            self.events.append(self._message())

    def value(self, script: str) -> Any:
        """What an expression of JavaScript gives, from outside of the page's own policy."""
        found = self.tell("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in found:
            raise BrowserError(found["exceptionDetails"]["text"])
        return found["result"].get("value")

    def complaints(self) -> list[str]:
        """What stands in the console since the page was shown."""
        entries = [found["params"] for found in self.events if found.get("method") == "Log.entryAdded"]
        return [entry["entry"]["text"] for entry in entries]

    def picture(self, path: Path, whole: bool = True) -> Path:
        shot = self.tell("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))
        return path

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            if not select.select([self._answers], [], [], PATIENCE)[0]:
                raise BrowserError(f"Chromium has said nothing for {PATIENCE} s")
            data = os.read(self._answers, 65536)
            if not data:
                raise BrowserError("Chromium has ended")
            self._rest += data
        message, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """:raises BrowserError: there is none on this machine."""
    path = program()
    if path is None:
        raise BrowserError(LACKING)
    with contextlib.ExitStack() as stack:
        with undisturbed():
            home = Path(tempfile.mkdtemp(prefix="chromium"))
            stack.callback(shutil.rmtree, home, ignore_errors=True)
            theirs_in, requests = os.pipe()
            answers, theirs_out = os.pipe()
            stack.callback(_end, _launched(path, home, theirs_in, theirs_out))
        for fd in (theirs_in, theirs_out):
            os.close(fd)
        for fd in (requests, answers):
            stack.callback(os.close, fd)
        yield Browser(requests, answers)


def _launched(path: str, home: Path, requests: int, answers: int) -> subprocess.Popen[bytes]:
    # Chromium reads from descriptor 3 and writes to 4; its sandbox does not run as root.
    options = [*OPTIONS, f"--user-data-dir={home}", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    script = f'exec "$@" 3<&{requests} 4>&{answers}'
    return subprocess.Popen(
        ["bash", "-c", script, "bash", path, *options],
        pass_fds=(requests, answers),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(home)},
        start_new_session=True,
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.wait()
