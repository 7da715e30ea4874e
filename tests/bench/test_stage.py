"""Over a network the stage lets in only who knows the password, as a server does that is reached by one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.bench.plan import TRANSPORT_NAMES
from tests.bench.stage import Address, Stage
from tests.bench.variants import VARIANTS
from tests.conftest import or_skip
from tools.postgres import SUPERUSER

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Stage() as stage:
        yield stage


def login(address: Address) -> dict[str, Any]:
    given = {"password": address.login["PASSWORD"]} if address.login else {}
    return {"host": address.host, "port": address.port, "user": SUPERUSER, "dbname": "site", **given}


def first_note(driver: Any, address: Address) -> str:
    with closing(driver.connect(**login(address), **address.options)) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT note FROM entry WHERE id = 1")
        return str(cursor.fetchone()[0])


@pytest.mark.parametrize("transport", TRANSPORT_NAMES)
def test_each_way_to_the_server_lets_the_site_in(stage: Stage, transport: str, driver: Any) -> None:
    assert first_note(driver, stage.address(transport)) == "note 1"


@pytest.mark.parametrize("transport", TRANSPORT_NAMES)
def test_so_does_the_pooler_which_knows_the_password(stage: Stage, transport: str, driver: Any) -> None:
    with or_skip(), stage.pooled(stage.address(transport)) as address:
        assert not address.login
        assert first_note(driver, address) == "note 1"


@pytest.mark.parametrize("transport", [name for name in TRANSPORT_NAMES if name != "socket"])
def test_nobody_comes_in_over_a_network_without_the_password(
    stage: Stage, transport: str, driver: Any
) -> None:
    address = stage.address(transport)
    for wrong in ({}, {"PASSWORD": "not this"}):
        with pytest.raises(driver.OperationalError, match="password"):
            driver.connect(**login(address._replace(login=wrong)), **address.options)


def test_variants_are_what_the_fault_tests_take() -> None:
    """They play their scenarios with them."""
    assert VARIANTS["ours"].persist is not None
    assert all(v.persist is None for v in VARIANTS.values() if "persist" not in v.options)
