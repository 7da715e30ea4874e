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


@given(st.lists(st.integers(1, 13).map("x".__mul__)))
def test_last_ones_are_known_and_no_more_than_twice_as_many(keys: list[str]) -> None:
    memory: Recent[str, int] = Recent(MOST)
    asked: list[str] = []
    for key in keys:
        found = memory.find(key)
        last = list(dict.fromkeys(reversed(asked)))[:MOST]
        assert found == len(key) if key in last else found in (None, len(key))
        if found is None:
            memory.keep(key, len(key))
        asked.append(key)
        assert memory.get(key) == len(key)
        assert len(memory) <= 2 * MOST


def test_long_ones_take_the_room_of_several() -> None:
    memory: Recent[str, bool] = Recent(MOST)
    keys = [str(number) * memory.USUAL * 2 for number in range(9)]
    for key in keys:
        memory.keep(key, True)
        assert len(memory) <= MOST
    assert [memory.find(key) for key in keys[-2:]] == [True, True]
