"""A private Apache that serves a site with the shipped vhost file: started, restarted, stopped."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tools import httpd as installed
from tools.httpd import ApacheError, Httpd
from tools.postgres import free_port
from tools.steps import undisturbed

VHOSTS = Path(__file__).resolve().parent.parent / "deploy" / "apache"
VHOST = VHOSTS / "wsgi_persist.conf"
MODULES = ("unixd", "authz_core", "authz_host", "log_config", "alias", "env")
READY = "resuming normal operations"

MAIN = """\
{load}
ServerRoot "{root}"
ServerName localhost
Listen 127.0.0.1:{port}
{identity}
DefaultRuntimeDir "{run}"
PidFile "{run}/httpd.pid"
WSGISocketPrefix "{run}/wsgi"
# A site served by Apache's own processes would hide that the daemons are not used.
WSGIRestrictEmbedded On
ErrorLog "{log}"
LogLevel notice wsgi:info
StartServers 8
MaxKeepAliveRequests 0
{defines}
Include "{vhost}"
{extra}
"""


class Apache:
    """``defines`` are those of the vhost file; ``environ`` reaches ``os.environ`` of the daemons.

    ``extra`` is configuration outside the vhost; ``reaches`` are further paths that the daemons
    must be able to read, such as the folder of the database's socket.
    """

    def __init__(
        self,
        root: Path,
        *,
        defines: Mapping[str, str],
        port: int | None = None,
        extra: str = "",
        environ: Mapping[str, str] | None = None,
        mpm: str = "prefork",
        modules: Sequence[str] = (),
        reaches: Sequence[Path] = (),
        vhost: Path = VHOST,
        httpd: Httpd | None = None,
    ) -> None:
        self.root = root.resolve()
        self.port = port or free_port()
        self.defines = {"PERSIST_VENV": sys.prefix, "PERSIST_SERVER_NAME": "localhost", **defines}
        self.extra = extra
        self.environ = dict(environ or {})
        self.modules = (f"mpm_{mpm}", *MODULES, *modules)
        self.reaches = reaches
        self.vhost = vhost
        self.httpd = httpd or installed.at_hand()
        self.error_log = self.root / "error.log"
        self.config = self.root / "httpd.conf"
        self._run: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, timeout: float = 30.0) -> Apache:
        installed.require_readable(self._needed())
        self._expect_ready(self._launch, timeout)
        return self

    def stop(self, timeout: float = 20.0) -> None:
        """As ``apachectl stop``: in-flight requests have the 3 s that Apache gives its daemons."""
        process = self._process
        if process is not None:
            process.terminate()
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            _end_group(process.pid)
            self._process = None  # not before: who is interrupted here stops it again
        if self._run is not None:
            shutil.rmtree(self._run, ignore_errors=True)
            self._run = None

    def restart(self, timeout: float = 30.0) -> None:
        """As ``apachectl restart``: same parent, new children, configuration read again."""
        self._signal(signal.SIGHUP, timeout)

    def graceful(self, timeout: float = 30.0) -> None:
        """As ``apachectl graceful``."""
        self._signal(signal.SIGUSR1, timeout)

    def daemon_pids(self) -> list[int]:
        """The site's daemon processes, those included that are still shutting down."""
        return sorted(pid for pid in children(self.pid) if _command_line(pid).startswith("(wsgi:"))

    def error_text(self) -> str:
        return self.error_log.read_text(errors="replace") if self.error_log.exists() else ""

    def __enter__(self) -> Apache:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _needed(self) -> list[Path]:
        project = Path(self.defines["PERSIST_PROJECT"])
        script = Path(self.defines.get("PERSIST_SCRIPT", project / "wsgi.py"))
        python = Path(self.defines["PERSIST_VENV"]) / "bin" / "python"
        return [python, Path(os.__file__), project, script, *self.reaches]

    def _configure(self) -> None:
        if self._run is None:
            # A socket's path is limited to 107 bytes, and the daemons' user must get to it.
            with undisturbed():
                self._run = public_folder("httpd")
        defines = {"PERSIST_PORT": str(self.port), **self.defines}
        user = installed.daemon_user().pw_name
        identity = f"User {user}\nGroup {installed.daemon_group()}" if os.geteuid() == 0 else ""
        self.config.write_text(
            MAIN.format(
                load=self.httpd.load(self.modules),
                root=self.root,
                port=self.port,
                run=self._run,
                identity=identity,
                log=self.error_log,
                vhost=self.vhost,
                extra=self.extra,
                defines="\n".join(f'Define {name} "{value}"' for name, value in defines.items()),
            )
        )

    def _command(self) -> list[str]:
        return [str(self.httpd.program), "-D", "FOREGROUND", "-f", str(self.config)]

    def _launch(self) -> None:
        self._configure()
        with self.error_log.open("ab") as log, undisturbed():
            self._process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env={**self.httpd.environ(), **self.environ},
                start_new_session=True,
            )

    def _signal(self, number: signal.Signals, timeout: float) -> None:
        self._configure()
        self._expect_ready(lambda: os.kill(self.pid, number), timeout)

    def _expect_ready(self, action: Callable[[], None], timeout: float) -> None:
        before = self.error_text().count(READY)
        give_up = time.monotonic() + timeout
        try:
            action()
            while self.error_text().count(READY) == before:
                self._require_alive(give_up)
                time.sleep(0.02)
        except BaseException:
            self.stop()
            raise

    def _require_alive(self, give_up: float) -> None:
        assert self._process is not None
        if self._process.poll() is not None or time.monotonic() > give_up:
            end = "\n".join(self.error_text().splitlines()[-10:])
            raise ApacheError(f"Apache did not start; the end of {self.error_log}:\n{end}")


def public_folder(prefix: str = "site") -> Path:
    """A new temporary folder that the daemons' user can read, unlike pytest's own under root."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    folder.chmod(0o755)
    return folder


@contextmanager
def scratch(prefix: str) -> Iterator[Path]:
    """Such a folder until the block is left, whatever ends that and whenever."""
    with ExitStack() as kept:
        with undisturbed():
            folder = public_folder(prefix)
            kept.callback(shutil.rmtree, folder, ignore_errors=True)
        yield folder


def children(parent: int) -> list[int]:
    """Process ids of its children, whichever of its threads started them."""
    tasks = Path(f"/proc/{parent}/task").glob("*/children")
    return [int(pid) for task in tasks for pid in task.read_text().split()]


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _end_group(group: int, patience: float = 5.0) -> None:
    give_up = time.monotonic() + patience
    try:
        while time.monotonic() < give_up:
            os.killpg(group, 0)
            time.sleep(0.02)
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass
