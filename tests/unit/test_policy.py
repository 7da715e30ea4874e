"""Bad options are refused with what was given, what is allowed and how to mend it."""

from __future__ import annotations

from typing import Any

import pytest

from wsgi_persist import Policy


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("scope", "worker", "one of 'auto', 'process', 'thread'"),
        ("scope", None, "one of 'auto'"),
        ("scope", ["process"], "one of 'auto'"),
        ("max_age", -1, "seconds as a number, 0 or more, or None for no limit"),
        ("max_age", "3600", "seconds as a number"),
        ("max_age", True, "seconds as a number"),
        ("max_age", float("nan"), "seconds as a number"),
        ("max_age", float("inf"), "or None for no limit"),
        ("idle_check", None, "seconds as a number, 0 or more"),
        ("idle_check", -0.1, "seconds as a number, 0 or more"),
        ("network_timeout", 0, "more than 0"),
        ("connect_timeout", 0.0, "more than 0"),
        ("connect_timeout", "4", "more than 0"),
        ("network_timeout", 30 * 86400, "at most 2000000"),
        ("reset", "sometimes", "one of 'dirty', 'always', 'never'"),
        ("reset_report", True, "one of 'log', 'raise'"),
        ("pooler", "pgbouncer", "one of None, 'session', 'transaction'"),
        ("prewarm", "yes", "one of 'auto', True, False"),
        ("prewarm", 1, "one of 'auto', True, False"),
        ("application_name", "", "a non-empty string"),
        ("application_name", "naïve", "printable ASCII"),
        ("application_name", 7, "a non-empty string"),
    ],
)
def test_wrong_value_is_named_with_what_is_allowed(option: str, value: Any, allowed: str) -> None:
    with pytest.raises(ValueError, match="is not allowed: give ") as refused:
        Policy(**{option: value})
    assert str(refused.value).startswith(f"{option}={value!r} ")
    assert allowed in str(refused.value)


def test_unknown_option_lists_the_known_and_guesses() -> None:
    with pytest.raises(ValueError, match=r"'max_agee' is not an option: .*; did you mean 'max_age'"):
        Policy.from_mapping({"max_agee": 1})
    with pytest.raises(ValueError, match=r"the options are scope, max_age, .*application_name$"):
        Policy.from_mapping({"zzz": 1})


@pytest.mark.parametrize("given", [None, 7, "scope", [("scope", "auto")]])
def test_options_are_a_mapping(given: Any) -> None:
    with pytest.raises(TypeError, match="give a dictionary of options"):
        Policy.from_mapping(given)


def test_defaults() -> None:
    assert Policy.from_mapping({}) == Policy(
        scope="auto",
        max_age=3600.0,
        idle_check=30.0,
        network_timeout=6.0,
        connect_timeout=4.0,
        reset="dirty",
        reset_report="log",
        prewarm="auto",
        pooler=None,
        application_name="wsgi_persist",
    )


def test_policy_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Policy().max_age = 1.0  # type: ignore[misc]


def test_connection_defaults_bound_silence() -> None:
    assert Policy().connection_defaults("site:7") == {
        "connect_timeout": 4,
        "keepalives": 1,
        "keepalives_idle": 3,
        "keepalives_interval": 1,
        "keepalives_count": 3,
        "tcp_user_timeout": 6000,
        "application_name": "wsgi_persist:site:7",
    }


def test_connection_defaults_hold_to_what_libpq_knows() -> None:
    given = Policy(connect_timeout=0.5, network_timeout=0.1, application_name="n" * 80)
    found = given.connection_defaults("7")
    assert found["connect_timeout"] == 2
    assert found["keepalives_idle"] == found["keepalives_interval"] == 1
    assert found["tcp_user_timeout"] == 100
    assert found["application_name"] == "n" * 61 + ":7"
    assert Policy(connect_timeout=4.2).connection_defaults("7")["connect_timeout"] == 5
