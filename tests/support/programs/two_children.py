"""A parent and its small children, for tests of several processes that run as one service.

``python two_children.py BEHAVIOUR DIRECTORY [DRAIN_SECONDS]`` is the parent of children 1 and 2,
which write each event to standard output. Child 1 behaves as it is told; child 2 works until it is
stopped. A child loads nothing of the package, so that it starts fast, and talks to systemd by hand.
"""

import faulthandler
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

DRAIN_SECONDS = 1.0


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


class Child:
    """One child; up to ``ready`` all behaviours are the same."""

    def __init__(self, behaviour: str, directory: Path, number: int) -> None:
        self.behaviour = behaviour if number == 1 or behaviour == "empty" else "work"
        self.directory = directory
        self.number = number
        self.is_first_life = not (directory / f"lived-{number}").exists()
        (directory / f"lived-{number}").touch()
        self.stopping = False
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def tell(self, line: str) -> None:
        self.socket.sendto(line.encode(), os.environ["NOTIFY_SOCKET"])

    def run(self) -> int:
        say(f"{self.number} {self.life} pid {os.getpid()} group {os.getpgrp()}")
        faulthandler.enable()
        faulthandler.register(signal.SIGUSR1, all_threads=True)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.stop)
        self.tell("STATUS=Starting")
        behaviours: dict[str, Callable[[], int]] = {
            "ready_when_told": self.get_ready_when_told,
            "empty": lambda: self.first(70),
            "code_always": self.end_with_code,
        }
        once: dict[str, Callable[[], int]] = {
            "never_ready": self.hang,
            "silent": self.hang_when_ready,
            "suspended": self.suspend,
            "code_once": self.end_with_code,
        }
        behave = behaviours.get(self.behaviour)
        if behave is None and self.is_first_life:
            behave = once.get(self.behaviour)
        return (behave or self.work)()

    @property
    def life(self) -> str:
        return "first life" if self.is_first_life else "another life"

    def stop(self, *_: object) -> None:
        if self.stopping:
            os._exit(1)
        self.stopping = True

    def get_ready(self) -> None:
        self.tell("READY=1\nSTATUS=Consuming")
        say(f"{self.number} ready")

    def work(self) -> int:
        self.get_ready()
        while not self.stopping:
            self.tell("WATCHDOG=1")
            time.sleep(0.05)
        if self.behaviour == "slow_to_drain":
            say("1 drains")
            time.sleep(60)
        if self.behaviour == "deaf":
            os.kill(os.getpid(), signal.SIGSTOP)
        say(f"{self.number} drained")
        return 0

    def get_ready_when_told(self) -> int:
        while not (self.stopping or (self.directory / "told").exists()):
            time.sleep(0.02)
        return self.work()

    def end_with_code(self) -> int:
        self.get_ready()
        return int((self.directory / "code").read_text())

    def first(self, code: int) -> int:
        """Child 1 dies once; then both find the queue empty."""
        return code if self.number == 1 and self.is_first_life else 0

    def hang(self) -> int:
        threading.Event().wait()
        return 0

    def hang_when_ready(self) -> int:
        self.get_ready()
        return self.hang()

    def suspend(self) -> int:
        self.get_ready()
        os.kill(os.getpid(), signal.SIGSTOP)
        return 0


def be_the_parent(behaviour: str, directory: str, drain_seconds: float = DRAIN_SECONDS) -> int:
    from product_consumer.environment import child_environment, read_systemd_environment
    from product_consumer.errors import FatalError
    from product_consumer.logs import configure_logging
    from product_consumer.runtime.exit_codes import EXIT_FATAL
    from product_consumer.runtime.process_supervisor import (
        PARENT_GRACE_SECONDS,
        Limits,
        ProcessSupervisor,
    )
    from product_consumer.runtime.signals import Shutdown
    from product_consumer.runtime.systemd import Notifier

    configure_logging("text", "INFO")
    start_seconds = 3.0 if behaviour == "never_ready" else 60.0
    notifier = Notifier(read_systemd_environment())
    with Shutdown(drain_seconds + PARENT_GRACE_SECONDS, notifier) as shutdown:
        supervisor = ProcessSupervisor(
            shutdown,
            2,
            lambda number: [sys.executable, __file__, behaviour, directory, "child", str(number)],
            lambda _: child_environment({}, {}),
            drain_seconds=drain_seconds,
            ends_when_empty=behaviour == "empty",
            limits=Limits(start=start_seconds, watchdog=0.5, first_pause=0.01),
        )
        try:
            return supervisor.run()
        except FatalError as error:
            say(f"fatal: {error}")
            return EXIT_FATAL


def main(behaviour: str, directory: str, *rest: str) -> int:
    if rest[:1] == ("child",):
        child = Child(behaviour, Path(directory), int(rest[1]))
        if behaviour == "left":
            from product_consumer.runtime.child_process import end_with_parent

            end_with_parent()
        return child.run()
    return be_the_parent(behaviour, directory, *map(float, rest))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
