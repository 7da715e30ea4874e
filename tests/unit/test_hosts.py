"""Which of several hosts are left out: an injected clock and knock, no network."""

from __future__ import annotations

import pytest

from tests.unit.fakes import Clock
from wsgi_persist.recovery.hosts import LEFT_OUT, LONG, Hosts

THREE, PORTS = "db1,db2,db3", "5432"


class Network:
    """Who answers, and who was asked."""

    def __init__(self) -> None:
        self.silent: set[str] = set()
        self.asked: list[str] = []

    def __call__(self, host: str, port: int, timeout: float) -> bool:
        self.asked.append(f"{host}:{port}")
        return host not in self.silent


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def hosts(clock: Clock, network: Network) -> Hosts:
    return Hosts("main", network, clock)


def attempt(hosts: Hosts, clock: Clock, took: float, names: str = THREE, ports: str = PORTS) -> str:
    """One that fails; whom it went to."""
    given = hosts.answering(names, ports)
    with pytest.raises(OSError, match="refused"), hosts.tried():
        clock.now += took
        raise OSError("refused")
    return given.get("host", names)


def test_quick_attempt_asks_nobody(hosts: Hosts, clock: Clock, network: Network) -> None:
    network.silent = {"db1"}
    assert [attempt(hosts, clock, LONG / 2) for _ in range(2)] == [THREE, THREE]
    assert network.asked == []


def test_silent_host_is_left_out(
    hosts: Hosts, clock: Clock, network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    network.silent = {"db1"}
    assert [attempt(hosts, clock, took) for took in (2.0, 0.1, 0.1)] == [THREE, "db2,db3", "db2,db3"]
    assert hosts.answering(THREE, PORTS) == {"host": "db2,db3", "port": "5432,5432"}
    assert [r.getMessage() for r in caplog.records] == [
        "pin 'main': host db1:5432 answers nobody, and is left out for now"
    ]


def test_it_is_asked_again_after_a_while(hosts: Hosts, clock: Clock, network: Network) -> None:
    network.silent = {"db1"}
    hosts.answering(THREE, PORTS)
    with hosts.tried():
        clock.now += 2.0
    network.asked.clear()
    for _ in range(2):
        assert hosts.answering(THREE, PORTS)["host"] == "db2,db3"
    assert network.asked == []
    clock.now += LEFT_OUT
    assert hosts.answering(THREE, PORTS)["host"] == "db2,db3"
    assert network.asked == ["db1:5432"]


def test_it_is_asked_before_the_next_attempt_where_the_others_do_not_do(
    hosts: Hosts, clock: Clock, network: Network
) -> None:
    """It may be the one that is wanted, and have been slow for a moment."""
    network.silent = {"db1"}
    assert [attempt(hosts, clock, took) for took in (2.0, 0.1)] == [THREE, "db2,db3"]
    network.silent.clear()
    assert attempt(hosts, clock, 0.1) == THREE


def test_interruption_asks_nobody(hosts: Hosts, clock: Clock, network: Network) -> None:
    network.silent = {"db1"}
    hosts.answering(THREE, PORTS)
    with pytest.raises(SystemExit), hosts.tried():
        clock.now += 2.0
        raise SystemExit
    assert network.asked == []


def test_who_answers_nobody_is_all_there_is(hosts: Hosts, clock: Clock, network: Network) -> None:
    network.silent = {"db1", "db2", "db3"}
    assert [attempt(hosts, clock, 6.0) for _ in range(2)] == [THREE, THREE]


def test_slow_success_leaves_somebody_out_too(hosts: Hosts, clock: Clock, network: Network) -> None:
    network.silent = {"db1"}
    hosts.answering(THREE, PORTS)
    with hosts.tried():
        clock.now += 2.0
    assert hosts.answering(THREE, PORTS)["host"] == "db2,db3"


def test_each_has_its_port(hosts: Hosts, clock: Clock, network: Network) -> None:
    network.silent = {"db2"}
    attempt(hosts, clock, 2.0, "db1,db2", "5433,5434")
    assert hosts.answering("db1,db2", "5433,5434") == {"host": "db1", "port": "5433"}


def test_port_of_the_environment(
    hosts: Hosts, clock: Clock, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "5999")
    attempt(hosts, clock, 2.0, "db1,db2", "")
    assert network.asked == ["db1:5999", "db2:5999"]


@pytest.mark.parametrize(
    ("names", "ports"),
    [
        ("db1", "5432"),
        ("db1,/run/postgresql", "5432"),
        ("db1,", "5432"),
        ("db1,db2", "1,2,3"),
        ("a,b", "x,"),
        ("a,b", "one"),
    ],
)
def test_lists_that_are_libpqs_alone(
    names: str, ports: str, hosts: Hosts, clock: Clock, network: Network
) -> None:
    network.silent = set(names.split(","))
    assert [attempt(hosts, clock, 9.0, names, ports) for _ in range(2)] == [names, names]
    assert network.asked == []
