"""Answers of the I/O thread to other threads that wait for them."""

from concurrent.futures import Future
from concurrent.futures import TimeoutError as NoAnswer
from typing import Any

__all__ = ["Answer", "NoAnswer", "settle"]

Answer = Future[Any]


def settle(answer: Answer, result: object = None, error: BaseException | None = None) -> None:
    """Give an answer, unless there is one or nobody waits for it any more."""
    if answer.done() or not answer.set_running_or_notify_cancel():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(result)
