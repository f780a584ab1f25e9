"""The environment of this process: the only module that reads it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dotenv import load_dotenv


def read_environment(env_file: Path | None) -> dict[str, str]:
    """Return all variables; those of ``env_file`` are loaded first and never replace another.

    They are loaded into the environment, so that libraries with variables of their own (boto3's
    ``AWS_PROFILE``, ``HF_HOME``) find them there too.
    """
    if env_file is not None:
        load_dotenv(env_file, override=False)
    return dict(os.environ)


@dataclass(frozen=True, slots=True)
class SystemdEnvironment:
    """The variables that systemd sets for a service; empty and 0 without systemd."""

    notify_socket: str = ""
    watchdog_usec: int = 0


def read_systemd_environment() -> SystemdEnvironment:
    """Read ``NOTIFY_SOCKET`` and, where it is meant for this process, ``WATCHDOG_USEC``."""
    watchdog_usec = os.environ.get("WATCHDOG_USEC", "")
    is_ours = os.environ.get("WATCHDOG_PID", "") in ("", str(os.getpid()))
    return SystemdEnvironment(
        os.environ.get("NOTIFY_SOCKET", ""),
        int(watchdog_usec) if is_ours and watchdog_usec.isdecimal() else 0,
    )


def child_environment(defaults: Mapping[str, str], changes: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a child process, ``.env`` included once it was read.

    ``changes`` win over the variables of this process, which win over ``defaults``.
    """
    return {**defaults, **os.environ, **changes}
