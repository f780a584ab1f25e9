"""A wall clock that jumps, as after a wrong time server; the monotonic clock goes on."""

import datetime as datetime_module
import sys
from datetime import datetime, timedelta, tzinfo
from typing import Self

_shift_seconds = 0.0


class JumpingDatetime(datetime):
    """A ``datetime`` whose ``now`` is that of a clock which was shifted."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        moment = datetime_module.datetime.now(tz) + timedelta(seconds=_shift_seconds)
        return cls.fromtimestamp(moment.timestamp(), tz)


def jump(seconds: float) -> None:
    """Shift the wall clock that the worker's own modules see.

    Libraries keep the real one: some, as gRPC, turn the wall clock into timers of the system. A
    real jump moves both; this one would move only the clock.
    """
    global _shift_seconds
    _shift_seconds += seconds
    for name, module in list(sys.modules.items()):
        is_ours = name.startswith("product_consumer") or name in ("data_management",)
        if is_ours and getattr(module, "datetime", None) is datetime:
            vars(module)["datetime"] = JumpingDatetime
