"""A small worker in a process of its own, for tests of signals, deaths and hangs.

``python one_worker.py BEHAVIOUR [DRAIN_SECONDS]``: one message waits in a queue in memory, and one
consumer thread treats it as the behaviour says. Each event is a line on standard output.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence

from product_consumer.environment import read_systemd_environment
from product_consumer.errors import FatalError
from product_consumer.models import Message
from product_consumer.outcomes import Outcome
from product_consumer.pipeline.context import ProcessContext, new_context
from product_consumer.queues.in_flight import InFlightTracker
from product_consumer.queues.memory import InMemoryQueue
from product_consumer.runtime.exit_codes import EXIT_FATAL
from product_consumer.runtime.signals import Shutdown
from product_consumer.runtime.stream import Stream
from product_consumer.runtime.supervisor import Supervisor, dump_stacks_on_request
from product_consumer.runtime.systemd import Notifier


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


class TellingQueue(InMemoryQueue):
    """Says what it releases."""

    def release(self, messages: Sequence[Message]) -> None:
        super().release(messages)
        say(f"released {len(messages)}")


class SilentQueue(InMemoryQueue):
    """Does not respond to a release."""

    def release(self, messages: Sequence[Message]) -> None:
        time.sleep(60)


class DyingTracker(InFlightTracker):
    """Ends its thread at the first extension."""

    def extend_due(self) -> None:
        raise SystemExit


class NoPipeline:
    """A pipeline that is never used: the consumer of this program does its own work."""

    def process(self, _messages: Sequence[Message]) -> list[Outcome]:
        return []

    def wait_until_ready(self) -> bool:
        return True


class Rig:
    """The supervisor under test watches its consumer, which behaves as ``behaviour`` says."""

    def __init__(self, behaviour: str, context: ProcessContext) -> None:
        self.behaviour = behaviour
        self.stages = context.stages
        self.stages.timeouts = {"overdue at once": -1.0}
        self.queue = SilentQueue() if behaviour == "hold_silent" else TellingQueue()
        self.queue.send("body")
        tracker = DyingTracker if behaviour == "tracker_dies" else InFlightTracker
        self.in_flight = tracker(self.queue, 2 if behaviour == "tracker_dies" else 30)
        self.lives = 0

    def consume(self, stopping: threading.Event) -> None:
        self.lives += 1
        say(f"life {self.lives}")
        behaviours: dict[str, Callable[[threading.Event], None]] = {
            "hold": self.hold,
            "hold_silent": self.hold,
            "finish": self.finish,
            "hang": self.hang,
            "raise": self.die_of(ZeroDivisionError("a bug")),
            "exit": self.die_of(SystemExit()),
            "fatal": self.die_of(FatalError("the device is lost")),
            "raise_once": self.die_once,
            "others_die": self.let_others_die,
        }
        behaviours.get(self.behaviour, self.poll)(stopping)

    def poll(self, stopping: threading.Event) -> None:
        while not stopping.is_set():
            with self.stages.stage("receive"):
                self.queue.receive(1, 1)

    def hold(self, _: threading.Event) -> None:
        with self.in_flight.track(self.queue.receive(1, 1)):
            say("holding")
            threading.Event().wait()

    def finish(self, stopping: threading.Event) -> None:
        messages = self.queue.receive(1, 1)
        with self.in_flight.track(messages):
            say("holding")
            stopping.wait()
            threading.Event().wait(0.5)
            self.queue.acknowledge(messages)
            say("finished")

    def hang(self, stopping: threading.Event) -> None:
        with self.stages.stage("overdue at once"):
            self.hold(stopping)

    def die_of(self, error: BaseException) -> Callable[[threading.Event], None]:
        def die(_: threading.Event) -> None:
            raise error

        return die

    def die_once(self, stopping: threading.Event) -> None:
        if self.lives == 1:
            raise ZeroDivisionError("a bug")
        self.poll(stopping)

    def let_others_die(self, stopping: threading.Event) -> None:
        for _ in range(6):
            threading.Thread(target=lambda: 1 / 0).start()
        self.poll(stopping)


def main(behaviour: str, drain_seconds: float = 25.0) -> int:
    dump_stacks_on_request()
    with Shutdown(drain_seconds, Notifier(read_systemd_environment())) as shutdown:
        if behaviour == "start":
            say("starting")
            time.sleep(60)
        context = new_context(shutdown.stopping)
        rig = Rig(behaviour, context)
        stream = Stream(
            rig.queue,
            rig.in_flight,
            NoPipeline(),
            failure=lambda: "the model died" if behaviour == "model_dies" else None,
            leave=lambda: say("left"),
        )
        supervisor = Supervisor(shutdown, [stream], context, drain_seconds=drain_seconds)
        try:
            code = supervisor.run([rig.consume], poll_seconds=None)
        except FatalError as error:
            say(f"fatal: {error}")
            return EXIT_FATAL
        say(f"left in flight: {rig.in_flight.count}")
        if behaviour == "close_hangs":
            time.sleep(60)
        return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], *map(float, sys.argv[2:])))
