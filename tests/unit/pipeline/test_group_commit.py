"""Calls of many threads made as one: each caller gets its own results, and all of them."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from product_consumer.errors import StoreUnavailable, Unavailable
from product_consumer.pipeline import group_commit
from product_consumer.pipeline.group_commit import MAX_ITEMS, GroupCommit

JOIN_SECONDS = 10.0


class FakeDependency:
    """Doubles numbers; remembers the items of each call, and can be held."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.entered = threading.Event()
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.refuses: Callable[[Sequence[int]], Exception | None] = lambda _items: None

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.asked.append(list(items))
        self.entered.set()
        assert self.may_answer.wait(JOIN_SECONDS)
        error = self.refuses(items)
        if error is not None:
            raise error
        return [2 * item for item in items]


def while_busy(
    dependency: FakeDependency, ask: GroupCommit[int, int], *calls: Sequence[int]
) -> list[Any]:
    """Make ``calls``, in order, while a first call for 0 is held; return results or errors."""
    dependency.may_answer.clear()
    with ThreadPoolExecutor(len(calls) + 1) as pool:
        first = pool.submit(ask, [0])
        assert dependency.entered.wait(JOIN_SECONDS)
        others = []
        for call in calls:
            waiting = len(ask._waiting)
            others.append(pool.submit(ask, call))
            while len(ask._waiting) == waiting:
                threading.Event().wait(0.001)
        dependency.may_answer.set()
        assert list(first.result(JOIN_SECONDS)) == [0]
        return [
            future.exception(JOIN_SECONDS) or list(future.result(JOIN_SECONDS)) for future in others
        ]


def test_a_caller_alone_is_answered_in_its_own_thread_at_once() -> None:
    threads: list[threading.Thread] = []

    def ask_here(items: Sequence[int]) -> Sequence[int]:
        threads.append(threading.current_thread())
        return items

    assert list(GroupCommit("ledger", ask_here)([1, 2])) == [1, 2]
    assert threads == [threading.current_thread()]


def test_callers_who_come_while_the_dependency_is_busy_share_one_call() -> None:
    dependency = FakeDependency()

    results = while_busy(dependency, GroupCommit("ledger", dependency), [1, 2], [3], [4, 5])

    assert results == [[2, 4], [6], [8, 10]]
    assert dependency.asked == [[0], [1, 2, 3, 4, 5]]


def test_nothing_is_asked_for_no_items() -> None:
    dependency = FakeDependency()

    assert list(GroupCommit("ledger", dependency)([])) == []
    assert dependency.asked == []


def test_one_call_carries_a_bounded_number_of_items() -> None:
    dependency = FakeDependency()
    half = list(range(MAX_ITEMS // 2 + 1))

    while_busy(dependency, GroupCommit("ledger", dependency), half, half, half)

    assert [len(items) for items in dependency.asked[1:]] == [len(half)] * 3


def test_a_caller_with_more_than_a_call_carries_is_answered_all_the_same() -> None:
    many = list(range(3 * MAX_ITEMS))

    assert list(GroupCommit("ledger", FakeDependency())(many)) == [2 * item for item in many]


def test_an_outage_is_everyones() -> None:
    dependency = FakeDependency()
    dependency.refuses = lambda items: (
        StoreUnavailable("ledger", "down") if 0 not in items else None
    )

    results = while_busy(dependency, GroupCommit("ledger", dependency), [1], [2])

    assert [type(result) for result in results] == [StoreUnavailable, StoreUnavailable]
    assert dependency.asked == [[0], [1, 2]]


def test_any_other_error_reaches_only_its_own_caller() -> None:
    dependency = FakeDependency()
    dependency.refuses = lambda items: ValueError("poison") if 2 in items else None

    results = while_busy(dependency, GroupCommit("ledger", dependency), [1], [2], [3])

    assert results[0] == [2]
    assert isinstance(results[1], ValueError)
    assert results[2] == [6]


def test_a_dependency_that_answers_too_little_is_not_believed() -> None:
    ask: GroupCommit[int, int] = GroupCommit("ledger", lambda _items: [])

    with pytest.raises(RuntimeError, match="0 results for 2 items"):
        ask([1, 2])


def test_waiting_for_a_turn_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "TURN_SECONDS", 0.05)
    dependency = FakeDependency()
    dependency.may_answer.clear()
    ask = GroupCommit("ledger", dependency)
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(ask, [1])
        assert dependency.entered.wait(JOIN_SECONDS)

        with pytest.raises(Unavailable, match="no turn for"):
            ask([2])

        dependency.may_answer.set()
        assert list(held.result(JOIN_SECONDS)) == [2]
    assert list(ask([3])) == [6]
    assert dependency.asked == [[1], [3]]


def test_a_thread_that_dies_while_it_asks_leaves_nobody_waiting() -> None:
    dependency = FakeDependency()

    def die_for_others(items: Sequence[int]) -> list[int]:
        results = dependency(items)
        if items != [0]:
            raise SystemExit
        return results

    results = while_busy(dependency, GroupCommit("ledger", die_for_others), [1], [2])

    assert [type(result) for result in results] == [SystemExit, Unavailable]


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.lists(st.integers(min_value=0), min_size=1, max_size=30), min_size=1, max_size=64)
)
def test_sixty_four_threads_get_their_own_answers_in_order(calls: list[list[int]]) -> None:
    dependency = FakeDependency()
    ask = GroupCommit("ledger", dependency)

    with ThreadPoolExecutor(64) as pool:
        results = list(pool.map(ask, calls))

    assert [list(result) for result in results] == [[2 * item for item in call] for call in calls]
    asked = sorted(item for items in dependency.asked for item in items)
    assert asked == sorted(item for call in calls for item in call)
