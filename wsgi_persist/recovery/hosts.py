"""Several hosts to choose from: who answers nobody is left out for a while."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from wsgi_persist.pins import knock

logger = logging.getLogger("wsgi_persist.hosts")

LONG = 1.0  # seconds, of an attempt: somebody did not answer
PATIENCE = 0.5
LEFT_OUT = 10.0


class Address(NamedTuple):
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Hosts:
    """Those of one alias. libpq waits for each in turn, in each attempt, for as long as connect_timeout.

    :param clock: monotonic, seconds.
    """

    def __init__(
        self,
        name: str,
        knock: Callable[[str, int, float], bool] = knock,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._knock = knock
        self._clock = clock
        self._silent: dict[Address, float] = {}  # until when they are left out
        self._tried: list[Address] = []

    def answering(self, hosts: str, ports: str) -> dict[str, str]:
        """The parameters of libpq's that are changed by leaving somebody out: none if nobody answers.

        A single host is none to choose from, and lists that do not fit are libpq's to refuse.
        """
        every = _addresses(hosts, ports)
        self._tried = tried = [address for address in every if not self._is_silent(address)]
        if len(tried) in (0, len(every)):
            return {}
        return {
            "host": ",".join(address.host for address in tried),
            "port": ",".join(str(address.port) for address in tried),
        }

    @contextmanager
    def tried(self) -> Iterator[None]:
        """An attempt to connect: where it takes long, somebody was silent."""
        began = self._clock()
        try:
            yield
        except Exception:
            for address in list(self._silent):
                self._silent[address] = began  # ask them before the next, as it may be them who are wanted
            self._look(began)
            raise
        self._look(began)

    def _look(self, began: float) -> None:
        tried = self._tried
        if len(tried) > 1 and self._clock() - began >= LONG:
            for address in tried:
                self._ask(address)

    def _is_silent(self, address: Address) -> bool:
        until = self._silent.get(address)
        if until is not None and self._clock() >= until:
            self._ask(address)
        return address in self._silent

    def _ask(self, address: Address) -> None:
        if self._knock(address.host, address.port, PATIENCE):
            if self._silent.pop(address, None) is not None:
                logger.info("pin %r: host %s answers again", self._name, address)
            return
        if address not in self._silent:
            logger.warning("pin %r: host %s answers nobody, and is left out for now", self._name, address)
        self._silent[address] = self._clock() + LEFT_OUT


def _addresses(hosts: str, ports: str) -> list[Address]:
    """Of TCP, where there are several."""
    names, numbers = hosts.split(","), (ports or os.environ.get("PGPORT", "5432")).split(",")
    if len(numbers) == 1:
        numbers *= len(names)
    fits = len(names) == len(numbers) > 1 and all(names) and all(map(str.isdecimal, numbers))
    if not fits or any(name.startswith(("/", "@")) for name in names):
        return []
    return [Address(name, int(number)) for name, number in zip(names, numbers, strict=True)]
