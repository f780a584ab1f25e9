"""Programs that tests need; a test that needs a missing one is skipped, or fails in CI.

A test may reach for a program through a fixture, through a helper or by starting it. Either way it
is skipped with the reason on a developer's machine, and fails where ``CI`` is set.
"""

import contextlib
import os
import shutil
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest


class MissingTool(Exception):
    """Raised when a program that a test or a server needs is not installed."""


def require(*programs: str, hint: str = "") -> None:
    """Raise ``MissingTool`` with the programs that are not on ``PATH``, and the hint."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        raise MissingTool(f"not installed: {', '.join(missing)}{hint and f' ({hint})'}")


@contextlib.contextmanager
def skipping_without_tools() -> Iterator[None]:
    """Turn a missing program into a skip, or into a failure where ``CI`` is set."""
    try:
        yield
    except MissingTool as missing:
        reason = str(missing)
    except FileNotFoundError as error:
        if not _is_missing_program(error):
            raise
        reason = f"not installed: {error.filename}"
    else:
        return
    if os.environ.get("CI"):
        pytest.fail(f"CI must not skip: {reason}", pytrace=False)
    pytest.skip(reason)


def _is_missing_program(error: FileNotFoundError) -> bool:
    """Whether a program that was to be started by its bare name is not on ``PATH``."""
    raised_in = traceback.extract_tb(error.__traceback__)[-1].filename
    name = str(error.filename)
    return Path(raised_in).name == "subprocess.py" and name == Path(name).name
