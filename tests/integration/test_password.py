"""A password that is made anew for each connection, or renewed in the settings, costs no connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from webtest import TestApp

from tests.conftest import Server


class Tokens:
    """Makes one whenever it is asked.

    :ivar made: how many.
    """

    def __init__(self) -> None:
        self.made = 0

    def __call__(self) -> str:
        self.made += 1
        return f"token{self.made}"

    def __str__(self) -> str:
        return self()


def as_object(tokens: Tokens) -> Any:
    return tokens


def as_lazy(tokens: Tokens) -> Any:
    from django.utils.functional import lazy

    return lazy(tokens, str)()


@pytest.fixture
def settings(site: TestApp, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Of the alias, as the wrapper holds them."""
    from django.db import connections

    found = connections["default"].settings_dict
    for key in ("PASSWORD", "OPTIONS"):
        monkeypatch.setitem(found, key, found[key])
    return found


@pytest.mark.parametrize("kind", [as_object, as_lazy])
def test_is_asked_for_once_for_each_connection(
    kind: Callable[[Tokens], Any], settings: dict[str, Any], pid_of: Callable[[], int], server: Server
) -> None:
    tokens = Tokens()
    settings["PASSWORD"] = kind(tokens)
    first = pid_of()
    asked = tokens.made
    assert asked > 0
    assert {pid_of() for _ in range(5)} == {first}
    assert tokens.made == asked
    server.terminate(first)
    assert pid_of() != first
    assert tokens.made == 2 * asked


@pytest.mark.parametrize("place", ["PASSWORD", "OPTIONS"])
def test_renewed_one_keeps_the_connection(
    place: str, settings: dict[str, Any], pid_of: Callable[[], int]
) -> None:
    options = settings["OPTIONS"]

    def renew(value: str) -> None:
        settings[place] = value if place == "PASSWORD" else {**options, "password": value}

    renew("one")
    first = pid_of()
    renew("two")
    assert pid_of() == first


def test_other_user_means_another_connection(
    settings: dict[str, Any], pid_of: Callable[[], int], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = pid_of()
    server("DO $$ BEGIN CREATE ROLE renewed LOGIN; EXCEPTION WHEN duplicate_object THEN END $$")
    monkeypatch.setitem(settings, "USER", "renewed")
    assert pid_of() != first
