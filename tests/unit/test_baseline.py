"""What the server is asked about a session."""

from __future__ import annotations

import pytest

from tests.unit.statements import LISTED_BY_SERVER, leaves
from wsgi_persist.pins import pg_catalog
from wsgi_persist.pins.baseline import CUSTOM
from wsgi_persist.pins.pg_catalog import _OWN, ask, kinds_of
from wsgi_persist.sql import QUIET, Classifier


@pytest.mark.parametrize("reason", sorted({reason for _, reason in LISTED_BY_SERVER}))
def test_server_is_asked_about_all_that_it_lists(reason: str) -> None:
    assert kinds_of(reason)
    assert kinds_of(reason) <= _OWN.keys() | {CUSTOM}


class Asked:
    def row(self, connection: object, sql: str) -> tuple[object, ...]:
        self.sql = sql
        return tuple(_OWN)


def test_question_is_a_read_that_leaves_nothing() -> None:
    driver = Asked()
    assert ask(driver, None) == {kind: kind for kind in _OWN}  # type: ignore[arg-type]
    assert Classifier()(driver.sql) is QUIET
    assert leaves(f"SELECT * FROM {pg_catalog._FUNCTIONS}") is QUIET
