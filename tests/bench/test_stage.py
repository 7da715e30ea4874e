"""Over a network the stage lets in only who knows the password, as a server does that is reached by one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.bench.stage import TRANSPORTS, Address, Stage
from tools.postgres import SUPERUSER

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Stage() as stage:
        yield stage


def login(address: Address) -> dict[str, Any]:
    given = {"password": address.login["PASSWORD"]} if address.login else {}
    return {"host": address.host, "port": address.port, "user": SUPERUSER, "dbname": "site", **given}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_each_way_to_the_server_lets_the_site_in(stage: Stage, transport: str, driver: Any) -> None:
    address = stage.address(transport)
    with driver.connect(**login(address), **address.options) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT note FROM entry WHERE id = 1")
        assert cursor.fetchone() == ("note 1",)
    connection.close()


@pytest.mark.parametrize("transport", [name for name in TRANSPORTS if name != "socket"])
def test_nobody_comes_in_over_a_network_without_the_password(
    stage: Stage, transport: str, driver: Any
) -> None:
    address = stage.address(transport)
    for wrong in ({}, {"PASSWORD": "not this"}):
        with pytest.raises(driver.OperationalError, match="password"):
            driver.connect(**login(address._replace(login=wrong)), **address.options)
