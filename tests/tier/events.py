"""What happens to the tier while it is asked, each followed by the time that it takes to be whole again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.tier.cluster import PatroniCluster
from tests.tier.front import PASSWORD, USER, HaProxy, Pooler


@dataclass
class Tier:
    cluster: PatroniCluster
    haproxy: HaProxy
    pooler: Pooler


def tier_on(cluster: PatroniCluster, home: Path, ledger: str) -> Tier:
    """The whole tier, with the site's role, database and table."""
    cluster.start()
    cluster.query(f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'")
    cluster.query(f"CREATE DATABASE {USER} OWNER {USER}")
    cluster.query(f"SET ROLE {USER}; {ledger}; CREATE TABLE probed ()", USER)
    tier = Tier(cluster, HaProxy(cluster, home), Pooler(cluster, home))
    tier.haproxy.start()
    tier.pooler.start()
    return tier


Event = Callable[[Tier], None]


def nothing(tier: Tier) -> None:
    """For comparison."""
    time.sleep(3)


def switchover(tier: Tier) -> None:
    tier.cluster.switch_over()


def leader_killed(tier: Tier) -> None:
    tier.cluster.lead().kill_postgres()


def host_frozen(tier: Tier) -> None:
    """Longer than ttl; what was the leader wakes up and still believes it."""
    host = tier.cluster.lead().host
    host.freeze()
    time.sleep(35)
    host.wake()


def host_unplugged(tier: Tier) -> None:
    host = tier.cluster.lead().host
    host.unplug()
    time.sleep(35)
    host.plug()


def etcd_leaderless(tier: Tier) -> None:
    with tier.cluster.without_etcd():
        time.sleep(20)


def pooler_restarted(tier: Tier) -> None:
    tier.pooler.restart()


def pooler_reconnects(tier: Tier) -> None:
    assert tier.pooler.command("RECONNECT") is not None


def pooler_paused(tier: Tier) -> None:
    """PAUSE returns when the transactions under way have ended."""
    assert tier.pooler.command("PAUSE") is not None
    time.sleep(3)
    assert tier.pooler.command("RESUME") is not None


def haproxy_reloaded(tier: Tier) -> None:
    tier.haproxy.reload()


def standby_lost(tier: Tier) -> None:
    """The synchronous one: writes wait until the other takes its place."""
    lost = next(member for member in tier.cluster.members if member.told().get("sync_standby"))
    assert lost.patroni is not None
    os.kill(lost.patroni.pid, signal.SIGKILL)
    lost.kill_postgres()
    time.sleep(15)
    lost.start_patroni()


def rolling_restart(tier: Tier) -> None:
    tier.cluster.restart_all()


EVENTS: dict[str, Event] = {
    "nothing": nothing,
    "switchover": switchover,
    "leader-killed": leader_killed,
    "host-frozen": host_frozen,
    "host-unplugged": host_unplugged,
    "etcd-leaderless": etcd_leaderless,
    "pooler-restarted": pooler_restarted,
    "pooler-reconnects": pooler_reconnects,
    "pooler-paused": pooler_paused,
    "haproxy-reloaded": haproxy_reloaded,
    "standby-lost": standby_lost,
    "rolling-restart": rolling_restart,
}
