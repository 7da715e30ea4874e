"""How the shim opens the connection of a pin."""

from __future__ import annotations

import operator
import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from django.db import connections
from django.db.backends.postgresql.psycopg_any import is_psycopg3

from wsgi_persist.backends.options import where_to
from wsgi_persist.drivers import quietly_close, watchable
from wsgi_persist.pins import PinnedConnection
from wsgi_persist.policy import Policy
from wsgi_persist.recovery import Hosts, Outage
from wsgi_persist.worker import Scope, current, guard, worker_name

if TYPE_CHECKING:
    from django.db.backends.postgresql.base import DatabaseWrapper as Base
else:
    Base = object

# Not PASSWORD: authentication is over once a connection stands, and it may be made anew for each.
_connects_with = operator.itemgetter("NAME", "USER", "HOST", "PORT", "AUTOCOMMIT", "OPTIONS")
_SECRETS = {"password", "passfile", "sslpassword", "oauth_client_secret"}  # libpq's, in OPTIONS


class _Server:
    """What this process knows of an alias's."""

    def __init__(self, alias: str) -> None:
        self.outage = Outage(alias)
        self.hosts = Hosts(alias)


class _Servers(dict[str, _Server]):
    def __missing__(self, alias: str) -> _Server:
        return self.setdefault(alias, _Server(alias))


_servers = _Servers()


class Claim:
    """An alias's, which tools for tenants make and remove while the process runs."""

    def __init__(self, wrapper: OpeningMixin) -> None:
        self._alias = wrapper.alias
        self._wrapper = weakref.ref(wrapper)

    def stands(self) -> bool:
        if self._alias in tuple(connections):
            return True
        wrapper = self._wrapper()
        if wrapper is None or wrapper.is_the_alias():
            return wrapper is not None
        # Settings that know more aliases than they list: to ask has made a wrapper.
        with suppress(AttributeError):
            del connections[self._alias]
        return False

    def end(self) -> None:
        _servers.pop(self._alias, None)


class OpeningMixin(Base):
    """Waits for a database that restarts; fails at once while it is known to be out of reach."""

    persist_policy = Policy()  # the alias's validated options
    _pin: PinnedConnection | None
    is_the_alias: Callable[[], bool]
    _introduced = 0  # serial of the pinned connection that was last announced with this wrapper

    def get_connection_params(self) -> dict[str, Any]:
        params = super().get_connection_params()
        params.pop("persist", None)
        if self._pin is None:
            return params
        if not is_psycopg3 and self.persist_policy.watches:
            params["connection_factory"] = watchable(params.get("connection_factory"))
        if "service" in params:
            return params
        if _chooses_by_name(params):
            given = str(params["host"]), str(params.get("port", ""))
            params.update(_servers[self.alias].hosts.answering(*given))
        return {**self._connection_defaults(str(params.get("host", "")).count(",") + 1), **params}

    def _connection_defaults(self, hosts: int) -> dict[str, Any]:
        return {
            **self.persist_policy.connection_defaults(worker_name()),
            "connect_timeout": self._attempt_timeout(hosts),
        }

    def _attempt_timeout(self, hosts: int = 1) -> int:
        scope = current()
        waited = scope.trouble.waited if scope is not None and scope.trouble is not None else 0.0
        return self.persist_policy.attempt_timeout(waited, hosts)

    def init_connection_state(self) -> None:
        # Before what Django sends, which has no deadline, and while the role is the one that logged in.
        if self._pin is not None:
            self._pin.greeting.exchange(self.connection, self._attempt_timeout())
        super().init_connection_state()

    def _fits(self, made_for: Any) -> bool:
        present = self.timezone_name, *_connects_with(self.settings_dict)
        return bool(made_for == present or _but_secrets(made_for) == _but_secrets(present))

    def _made_for(self) -> tuple[Any, ...]:
        """All that a connection is opened with; copied where settings are changed in place for tests."""
        *plain, options = _connects_with(self.settings_dict)
        # As they are: a copy of a lazy value is another one, and to compare it is to ask for it.
        return self.timezone_name, *plain, dict(options)

    def _open(self, scope: Scope, pin: PinnedConnection) -> None:
        server = _servers[self.alias]
        server.outage.connect(lambda: self._attempt(scope, pin, server.hosts), scope, self.persist_policy)
        self._introduced = pin.serial
        if "," in where_to(self.settings_dict)[1]:
            guard().look_after(pin)

    def _attempt(self, scope: Scope, pin: PinnedConnection, hosts: Hosts) -> None:
        self._pin = pin
        try:
            with hosts.tried(), self._listening() as said:
                super().connect()
            pin.hold(self.connection, self._made_for(), scope.now)
            assert pin.session is not None
            pin.session.connected_with(said)
            scope.lease(pin, self)  # type: ignore[arg-type]  # the mixin has detach()
        except BaseException:
            self._pin = None
            connection, self.connection = self.connection, None
            if pin.connection is not None:
                pin.drop("interrupted when it had just been opened")
            elif connection is not None:
                quietly_close(connection, pin.name)
            raise

    @contextmanager
    def _listening(self) -> Iterator[list[Any]]:
        """The statements that receivers of connection_created send."""
        said: list[Any] = []

        def note(execute: Any, sql: Any, *args: Any) -> Any:
            said.append(sql)
            return execute(sql, *args)

        # Not by execute_wrapper(), which ends by taking the last one: a receiver may have added its own.
        self.execute_wrappers.insert(0, note)
        try:
            yield said
        finally:
            if note in self.execute_wrappers:
                self.execute_wrappers.remove(note)


def _chooses_by_name(params: dict[str, Any]) -> bool:
    """Whether libpq chooses among hosts that are named here, and nothing else goes with each of them."""
    elsewhere = "hostaddr" in params or not os.environ.keys().isdisjoint({"PGHOSTADDR", "PGSERVICE"})
    return "," in str(params.get("host", "")) and not elsewhere


def _but_secrets(made_for: tuple[Any, ...]) -> tuple[Any, ...]:
    *plain, options = made_for
    return *plain, {key: value for key, value in options.items() if key not in _SECRETS}
