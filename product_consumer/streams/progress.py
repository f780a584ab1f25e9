"""How far a producer or a collector is: a bar on a terminal, a log line a second anywhere else."""

import logging
import sys
from contextlib import ExitStack
from threading import Event, Lock, Thread
from time import monotonic
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

log = logging.getLogger(__name__)

LINE_SECONDS = 1.0
_BAR_SECONDS = 0.25


class Progress:
    """Counts what is done, and tells it on standard error while the block lasts. Thread-safe.

    ``done``: the word for one more, such as ``Sent``. ``unit``: of what, in the plural. ``total``:
    None where nobody knows. ``has_bar``: False where the terminal shows something else.
    """

    def __init__(
        self, done: str, unit: str, total: int | None = None, *, has_bar: bool = True
    ) -> None:
        self._done, self._unit, self._total = done, unit, total
        self._has_bar = has_bar and sys.stderr is not None and sys.stderr.isatty()
        self._lock = Lock()
        self._count = 0
        self._others: dict[str, int] = {}
        self._ended = Event()
        self._first_at = self._last_at = 0.0
        self._thread = Thread(target=self._tell, name="progress", daemon=True)
        self._closing = ExitStack()

    def add(self, count: int = 1, **others: int) -> None:
        """Count what is done. ``others``: told beside it by their names, such as ``refused``."""
        with self._lock:
            self._last_at = monotonic()
            self._first_at = self._first_at or self._last_at
            self._count += count
            for name, more in others.items():
                self._others[name] = self._others.get(name, 0) + more

    def __enter__(self) -> Self:
        self._bar: Any = None
        if self._has_bar:
            self._closing.enter_context(logging_redirect_tqdm())
            self._bar = self._closing.enter_context(
                tqdm(total=self._total, unit=f" {self._unit}", desc=self._done, file=sys.stderr)
            )
        self._thread.start()
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._closing.close()
        log.info("%s", self.in_words())

    def in_words(self) -> str:
        """``Sent 1,200 of 2,000 words, 3 refused, in 4.2 s``: from the first to the last."""
        with self._lock:
            count, others = self._count, dict(self._others)
            seconds = self._last_at - self._first_at
        of_total = "" if self._total is None else f" of {self._total:,}"
        beside = "".join(
            f", {number:,} {name.replace('_', ' ')}" for name, number in others.items() if number
        )
        return f"{self._done} {count:,}{of_total} {self._unit}{beside}, in {seconds:.1f} s"

    def _tell(self) -> None:
        told = 0
        while not self._ended.wait(LINE_SECONDS if self._bar is None else _BAR_SECONDS):
            with self._lock:
                count = self._count
            if self._bar is not None:
                self._bar.update(count - self._bar.n)
            elif count != told:
                log.info("%s", self.in_words())
            told = count
        if self._bar is not None:
            self._bar.update(self._count - self._bar.n)
