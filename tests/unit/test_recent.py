"""A memory that is bounded, and forgets what was not asked for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wsgi_persist.sql import Recent

MOST = 4


def test_what_is_asked_for_stays() -> None:
    memory: Recent[str, int] = Recent(MOST)
    memory.keep("a", 1)
    for number in range(100):
        assert memory.find("a") == 1
        memory.keep(str(number), number)
    assert memory.find("0") is None


@given(st.lists(st.integers(0, 12)))
def test_last_ones_are_known_and_no_more_than_twice_as_many(keys: list[int]) -> None:
    memory: Recent[int, int] = Recent(MOST)
    asked: list[int] = []
    for key in keys:
        found = memory.find(key)
        last = list(dict.fromkeys(reversed(asked)))[:MOST]
        assert found == key + 1 if key in last else found in (None, key + 1)
        if found is None:
            memory.keep(key, key + 1)
        asked.append(key)
        assert memory.get(key) == key + 1
        assert len(memory) <= 2 * MOST
