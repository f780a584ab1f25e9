"""A world whose workers start at once: forks of a process that has imported the whole program."""

from collections.abc import Mapping
from pathlib import Path

from tests.acceptance.world import Worker, World
from tests.faults.harness.forked_workers import ForkServer


class WarmWorld(World):
    """For tests of what a worker does; a ``World`` is for those of how the program starts."""

    def __init__(
        self, directory: Path, sqs_url: str, model: Mapping[str, str], fork_server: ForkServer
    ) -> None:
        super().__init__(directory, sqs_url, model)
        self._fork_server = fork_server

    def _start(self, environment: Mapping[str, str], arguments: list[str]) -> Worker:
        return self._fork_server.fork(environment, self.directory, arguments)
