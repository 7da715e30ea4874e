"""The options: their defaults, units and validation."""

from __future__ import annotations

import difflib
import enum
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from wsgi_persist.redaction import redacted


def _one_of(*allowed: Any) -> Callable[[Any], str | None]:
    text = ", ".join(map(repr, allowed))

    def check(value: Any) -> str | None:
        # 1 == True, so equality alone would let numbers through.
        fits = any(value == choice and type(value) is type(choice) for choice in allowed)
        return None if fits else f"one of {text}"

    return check


# libpq takes these in milliseconds, as 32-bit integers.
_LONGEST_TIMEOUT = 2_000_000


def _seconds(*, none: bool = False, zero: bool = True, most: float = math.inf) -> Callable[[Any], str | None]:
    bounds = ("0 or more" if zero else "more than 0") + ("" if most == math.inf else f", at most {most}")
    text = f"seconds as a number, {bounds}" + (", or None for no limit" if none else "")

    def check(value: Any) -> str | None:
        if value is None:
            return None if none else text
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return text
        fits = math.isfinite(value) and 0 <= value <= most and (zero or value > 0)
        return None if fits else text

    return check


def _whole(what: str, least: int) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        fits = isinstance(value, int) and not isinstance(value, bool) and value >= least
        return None if fits else f"{what}, {least} or more"

    return check


def _name(value: Any) -> str | None:
    fits = isinstance(value, str) and value != "" and value.isascii() and value.isprintable()
    return None if fits else "a non-empty string of printable ASCII characters"


def _folder(value: Any) -> str | None:
    fits = value is None or (isinstance(value, str) and value.startswith("/") and "\0" not in value)
    return None if fits else "the full path of a folder as a string, or None"


class Repeats(enum.IntEnum):
    """Which requests are run again whose connection was lost."""

    NONE = 0
    READS = 1
    ALL = 2


_CHECKS: dict[str, Callable[[Any], str | None]] = {
    "scope": _one_of("auto", "process", "thread"),
    "max_age": _seconds(none=True),
    "idle_check": _seconds(),
    "network_timeout": _seconds(zero=False, most=_LONGEST_TIMEOUT),
    "connect_timeout": _seconds(zero=False, most=_LONGEST_TIMEOUT),
    "reconnect_deadline": _seconds(),
    "retry_after": _whole("whole seconds", 0),
    "replay": _one_of("safe", "off"),
    "replay_requests": _one_of(True, False, "all"),
    "replay_body": _whole("bytes as a whole number", 0),
    "commit_outcome": _one_of(True, False, "always"),
    "transactions": _one_of("folded", "lazy", "stock"),
    "max_pins": _whole("a whole number", 1),
    "reset": _one_of("dirty", "always", "never"),
    "reset_report": _one_of("log", "raise"),
    "prewarm": _one_of("auto", True, False),
    "pooler": _one_of(None, "session", "transaction"),
    "application_name": _name,
    "status_dir": _folder,
}


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How a pin is kept. All times are seconds.

    :param scope: who shares a pin: ``"process"``, ``"thread"``, or ``"auto"``: the process where the
        server runs requests one at a time (``wsgi.multithread`` is false), else the thread.
    :param max_age: a connection older than this is replaced; up to a tenth is taken off at random so
        that workers do not reconnect together. None for no limit.
    :param idle_check: a connection that was idle for longer is pinged before it is used again.
    :param network_timeout: silence on TCP that counts as loss of the connection.
    :param connect_timeout: for one attempt to connect; libpq knows whole seconds, at least 2.
    :param reconnect_deadline: how long one request waits in all for a database that is out of reach;
        overrun by at most one attempt to connect. A statement that had run for longer is not sent again.
    :param retry_after: in the header of the answer 503, after which a visitor may try again.
    :param replay: ``"safe"``: a statement whose connection was lost is sent again on a new one where
        that cannot repeat an effect; or ``"off"``.
    :param replay_requests: run a whole GET, HEAD or OPTIONS request again whose connection was lost, if
        it has completed no write; ``"all"``: a request of any method.
    :param replay_body: bytes of a request's body that are kept for that; a longer one is not run again. The
        largest counts where aliases differ.
    :param commit_outcome: when the COMMIT of a transaction that wrote is lost, ask the server whether it was
        carried out. The transaction's number is asked for just before: in a round trip that was saved
        before, or, if ``"always"``, in one more.
    :param transactions: ``"folded"``: BEGIN and savepoints are sent in one text with the statement that
        follows them; ``"lazy"``: also, a transaction begins with its first statement that is no plain
        read; ``"stock"``: each is a round trip of its own.
    :param max_pins: idle connections that one process or thread keeps; of more, the least recently used is
        closed when a request ends. The largest counts where aliases differ.
    :param reset: make the session as good as new after a request: ``"dirty"`` where it left something
        behind, ``"always"``, ``"never"``.
    :param reset_report: what a request left behind is a line in the log, or, for tests, ``"raise"``:
        closing its response raises :class:`LeakedStateError`.
    :param prewarm: open the pins when the application is wrapped: ``"auto"`` does so in a mod_wsgi
        daemon process with one request thread.
    :param pooler: what stands between the worker and PostgreSQL; behind one in ``"transaction"`` mode
        no session is warmed, watched or reset.
    :param application_name: shown in ``pg_stat_activity``, followed by mod_wsgi's process group and pid.
    :param status_dir: of the middleware's policy: the folder where each worker tells what it knows of itself;
        None for the variable ``PERSIST_STATUS``, else ``/run/wsgi_persist/<process group>`` if it exists.
    :raises ValueError: an option's value is not allowed; the message names what is.
    """

    scope: Literal["auto", "process", "thread"] = "auto"
    max_age: float | None = 3600.0
    idle_check: float = 30.0
    network_timeout: float = 6.0
    connect_timeout: float = 4.0
    reconnect_deadline: float = 5.0
    retry_after: int = 2
    replay: Literal["safe", "off"] = "safe"
    replay_requests: bool | Literal["all"] = False
    replay_body: int = 65_536
    commit_outcome: bool | Literal["always"] = True
    transactions: Literal["folded", "lazy", "stock"] = "folded"
    max_pins: int = 8
    reset: Literal["dirty", "always", "never"] = "dirty"
    reset_report: Literal["log", "raise"] = "log"
    prewarm: bool | Literal["auto"] = "auto"
    pooler: Literal["session", "transaction"] | None = None
    status_dir: str | None = None
    application_name: str = "wsgi_persist"

    def __post_init__(self) -> None:
        for name, check in _CHECKS.items():
            value = getattr(self, name)
            if allowed := check(value):
                raise ValueError(redacted(f"{name}={value!r}") + f" is not allowed: give {allowed}")

    @classmethod
    def from_mapping(cls, given: Mapping[str, Any]) -> Policy:
        """The policy with these options, as ``OPTIONS["persist"]`` holds them.

        :raises TypeError: it is not a mapping.
        :raises ValueError: a key is unknown or a value is not allowed.
        """
        if not isinstance(given, Mapping):
            raise TypeError(f"{redacted(repr(given))} is not allowed: give a dictionary of options")
        known = [field.name for field in fields(cls)]
        for key in given:
            if key not in known:
                raise ValueError(_unknown_option(key, known))
        return cls(**given)

    @property
    def repeats(self) -> Repeats:
        return Repeats.ALL if self.replay_requests == "all" else Repeats(self.replay_requests)

    @property
    def resets(self) -> bool:
        """Whether what a request leaves in the session is undone."""
        return self.reset != "never" and self.pooler != "transaction"

    @property
    def watches(self) -> bool:
        """Whether statements are watched: for what they leave, or for whether all may be done again."""
        return self.resets or self.replay == "safe" or self.repeats > Repeats.NONE

    def attempt_timeout(self, waited: float, hosts: int = 1) -> int:
        """For one attempt to connect to one of the hosts: its part of what is left of the deadline.

        libpq knows whole seconds, and takes 1 for 2.

        :param waited: seconds that the request has waited for the database already.
        """
        left = max(self.reconnect_deadline - waited, 0.0) or self.connect_timeout
        return max(2, math.ceil(min(self.connect_timeout, left) / hosts))

    def connection_defaults(self, worker: str) -> dict[str, Any]:
        """libpq parameters that bound silence and name the session.

        With ``tcp_user_timeout`` set, Linux gives a connection up once a keepalive probe is
        unanswered and nothing was heard for that time (tcp(7)); libpq ignores all of these on a
        Unix socket (https://www.postgresql.org/docs/current/libpq-connect.html).

        :param worker: told apart in ``pg_stat_activity``, for instance ``"site:1234"``.
        """
        silence = self.network_timeout
        return {
            "connect_timeout": max(2, math.ceil(self.connect_timeout)),
            "keepalives": 1,
            "keepalives_idle": max(1, int(silence / 2)),
            "keepalives_interval": max(1, int(silence / 6)),
            "keepalives_count": 3,
            "tcp_user_timeout": max(1, int(silence * 1000)),
            "application_name": _shortened(f"{self.application_name}:{worker}"),
        }


def _shortened(name: str) -> str:
    """PostgreSQL cuts names off after 63 bytes, where the pid stands that tells workers apart."""
    start, _, pid = name.rpartition(":")
    return f"{start[: 62 - len(pid)]}:{pid}"


def _unknown_option(key: object, known: list[str]) -> str:
    close = difflib.get_close_matches(str(key), known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"{redacted(repr(key))} is not an option: the options are {', '.join(known)}{hint}"
