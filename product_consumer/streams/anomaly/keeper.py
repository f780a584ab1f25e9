"""Writes what a detector has learnt into its file: in a thread of its own, so nothing waits."""

import logging
import threading
from collections.abc import Callable

from product_consumer.streams.anomaly.state import State
from product_consumer.streams.anomaly.state_files import StateFiles

log = logging.getLogger(__name__)

SAVED_AFTER_RECORDS = 1000
SAVED_AFTER_SECONDS = 10.0


class StateKeeper:
    """Saves a state after so many records or seconds, and when it is closed.

    ``state``: returns the present one; called in the thread of the keeper.
    """

    def __init__(
        self,
        files: StateFiles,
        state: Callable[[], State],
        *,
        after_seconds: float = SAVED_AFTER_SECONDS,
    ) -> None:
        self._files = files
        self._state = state
        self._after_seconds = after_seconds
        self._saved = -1
        self._is_failing = False
        self._noted = 0
        self._is_due = threading.Event()
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="anomaly-state", daemon=True)

    def start(self) -> None:
        """Start the thread; call once."""
        self._thread.start()

    def note(self, count: int) -> None:
        """Tell that records were learnt; any thread, returns at once."""
        # Two threads may lose a count to each other: then the file is a little late.
        self._noted += count
        if self._noted >= SAVED_AFTER_RECORDS:
            self.save_soon()

    def save_soon(self) -> None:
        """Have the state written at once, by the thread of the keeper."""
        self._noted = 0
        self._is_due.set()

    def close(self) -> None:
        """Save once more and end the thread."""
        self._is_closing = True
        self._is_due.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while True:
            self._is_due.wait(self._after_seconds)
            self._is_due.clear()
            is_last = self._is_closing
            self._save()
            if is_last:
                return

    def _save(self) -> None:
        try:
            state = self._state()
            if state.seen == self._saved:
                return
            self._files.write(state)
        except OSError as error:
            if not self._is_failing:
                log.warning("The detector's state cannot be written: %s", error.strerror)
            self._is_failing = True
        except Exception:
            log.exception("The detector's state cannot be written")
        else:
            if self._is_failing:
                log.info("The detector's state is written again")
            self._saved, self._is_failing = state.seen, False
