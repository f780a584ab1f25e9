"""Calls of many threads made as one: nobody's answer is lost, swapped or somebody else's error."""

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


class Part:
    """Doubles numbers; remembers what it was asked in one call, and can be held."""

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


def while_busy(part: Part, ask: GroupCommit[int, int], *calls: Sequence[int]) -> list[Any]:
    """Make ``calls``, in order, while a first call for 0 is held; return answers or errors."""
    part.may_answer.clear()
    with ThreadPoolExecutor(len(calls) + 1) as pool:
        first = pool.submit(ask, [0])
        assert part.entered.wait(JOIN_SECONDS)
        others = []
        for call in calls:
            waiting = len(ask._waiting)
            others.append(pool.submit(ask, call))
            while len(ask._waiting) == waiting:
                threading.Event().wait(0.001)
        part.may_answer.set()
        assert list(first.result(JOIN_SECONDS)) == [0]
        return [
            future.exception(JOIN_SECONDS) or list(future.result(JOIN_SECONDS)) for future in others
        ]


def test_a_caller_alone_is_answered_in_its_own_thread_at_once() -> None:
    threads: list[threading.Thread] = []

    def ask_here(items: Sequence[int]) -> Sequence[int]:
        threads.append(threading.current_thread())
        return items

    assert list(GroupCommit("part", ask_here)([1, 2])) == [1, 2]
    assert threads == [threading.current_thread()]


def test_callers_who_come_while_the_part_is_busy_share_one_call() -> None:
    part = Part()

    answers = while_busy(part, GroupCommit("part", part), [1, 2], [3], [4, 5])

    assert answers == [[2, 4], [6], [8, 10]]
    assert part.asked == [[0], [1, 2, 3, 4, 5]]


def test_nothing_is_asked_for_no_items() -> None:
    part = Part()

    assert list(GroupCommit("part", part)([])) == []
    assert part.asked == []


def test_one_call_carries_a_bounded_number_of_items() -> None:
    part = Part()
    half = list(range(MAX_ITEMS // 2 + 1))

    while_busy(part, GroupCommit("part", part), half, half, half)

    assert [len(items) for items in part.asked[1:]] == [len(half)] * 3


def test_a_caller_with_more_than_a_call_carries_is_answered_all_the_same() -> None:
    many = list(range(3 * MAX_ITEMS))

    assert list(GroupCommit("part", Part())(many)) == [2 * item for item in many]


def test_an_outage_is_everyones() -> None:
    part = Part()
    part.refuses = lambda items: StoreUnavailable("part", "down") if 0 not in items else None

    answers = while_busy(part, GroupCommit("part", part), [1], [2])

    assert [type(answer) for answer in answers] == [StoreUnavailable, StoreUnavailable]
    assert part.asked == [[0], [1, 2]]


def test_any_other_error_reaches_only_the_caller_whose_it_is() -> None:
    part = Part()
    part.refuses = lambda items: ValueError("poison") if 2 in items else None

    answers = while_busy(part, GroupCommit("part", part), [1], [2], [3])

    assert answers[0] == [2]
    assert isinstance(answers[1], ValueError)
    assert answers[2] == [6]


def test_a_part_that_answers_too_little_is_not_believed() -> None:
    ask: GroupCommit[int, int] = GroupCommit("part", lambda _items: [])

    with pytest.raises(RuntimeError, match="0 results for 2 items"):
        ask([1, 2])


def test_waiting_for_a_turn_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "TURN_SECONDS", 0.05)
    part = Part()
    part.may_answer.clear()
    ask = GroupCommit("part", part)
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(ask, [1])
        assert part.entered.wait(JOIN_SECONDS)

        with pytest.raises(Unavailable, match="no turn for"):
            ask([2])

        part.may_answer.set()
        assert list(held.result(JOIN_SECONDS)) == [2]
    assert list(ask([3])) == [6]
    assert part.asked == [[1], [3]]


def test_a_thread_that_dies_while_it_asks_leaves_nobody_waiting() -> None:
    part = Part()

    def die_for_others(items: Sequence[int]) -> list[int]:
        answers = part(items)
        if items != [0]:
            raise SystemExit
        return answers

    answers = while_busy(part, GroupCommit("part", die_for_others), [1], [2])

    assert [type(answer) for answer in answers] == [SystemExit, Unavailable]


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.lists(st.integers(min_value=0), min_size=1, max_size=30), min_size=1, max_size=64)
)
def test_sixty_four_threads_get_their_own_answers_in_order(calls: list[list[int]]) -> None:
    part = Part()
    ask = GroupCommit("part", part)

    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(ask, calls))

    assert [list(answer) for answer in answers] == [[2 * item for item in call] for call in calls]
    asked = sorted(item for items in part.asked for item in items)
    assert asked == sorted(item for call in calls for item in call)
