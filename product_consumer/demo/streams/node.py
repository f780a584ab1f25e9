"""A RabbitMQ on this machine: loopback only, in a folder of its own, ended with the demo.

It needs Erlang's port mapper, epmd. A node would start one and leave it behind, so one is started
here, on a port of its own, and ended with the node.
"""

import logging
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from time import monotonic

from product_consumer.environment import child_environment
from product_consumer.errors import FatalError
from product_consumer.pipeline.backoff import Stopped
from product_consumer.runtime.exit_codes import UsageError

log = logging.getLogger(__name__)

START_SECONDS = 60.0
STOP_SECONDS = 20.0
# Debian's own program in /usr/sbin changes the user, so that only root can start it.
PLACES = (
    "/usr/lib/rabbitmq/bin",
    "/opt/homebrew/sbin",
    "/usr/local/sbin",
    "/usr/sbin",
)
HOW_TO_INSTALL = (
    "No RabbitMQ is installed here. On Debian or Ubuntu:\n"
    "  apt-get install --no-install-recommends rabbitmq-server\n"
    "On macOS:\n"
    "  brew install rabbitmq"
)
_LOOPBACK = "-kernel inet_dist_use_interface {127,0,0,1}"
_POLL_SECONDS = 0.1


class LocalRabbit:
    """A node that runs within the block; ``server`` is its address."""

    server: str

    def __init__(self, directory: Path, wait: Callable[[float], bool]) -> None:
        """``directory``: made when it is missing. ``wait``: sleeps; True when asked to stop."""
        self._directory = directory.resolve()
        self._wait = wait
        self._closing = ExitStack()

    def __enter__(self) -> "LocalRabbit":
        """Raises ``UsageError`` without the program, ``FatalError`` and ``Stopped``."""
        program = find_program()
        (self._directory / "log").mkdir(parents=True, exist_ok=True)
        port, dist_port, epmd_port = free_ports(3)
        environment = self._configure(port, dist_port, epmd_port)
        try:
            epmd = ["epmd", "-port", str(epmd_port), "-address", "127.0.0.1"]
            self._start(epmd, environment, epmd_port, "epmd")
            self._start([program], environment, port, "RabbitMQ")
        except BaseException:
            self._closing.close()
            raise
        self.server = f"127.0.0.1:{port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def _configure(self, port: int, dist_port: int, epmd_port: int) -> dict[str, str]:
        folder = self._directory
        lines = [f"listeners.tcp.1 = 127.0.0.1:{port}", "log.console = false"]
        (folder / "rabbitmq.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")
        # Messages of an earlier demo.
        shutil.rmtree(folder / "mnesia", ignore_errors=True)
        (folder / "enabled_plugins").write_text("[].\n", encoding="utf-8")
        (folder / "rabbitmq-env.conf").touch()
        changes = {
            "HOME": folder,
            "RABBITMQ_NODENAME": "rabbit@localhost",
            "RABBITMQ_MNESIA_BASE": folder / "mnesia",
            "RABBITMQ_LOG_BASE": folder / "log",
            "RABBITMQ_CONFIG_FILE": folder / "rabbitmq.conf",
            "RABBITMQ_CONF_ENV_FILE": folder / "rabbitmq-env.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": folder / "enabled_plugins",
            "RABBITMQ_PLUGINS_EXPAND_DIR": folder / "plugins",
            "RABBITMQ_GENERATED_CONFIG_DIR": folder / "config",
            "RABBITMQ_PID_FILE": folder / "pid",
            "RABBITMQ_DIST_PORT": dist_port,
            "ERL_EPMD_PORT": epmd_port,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_CRASH_DUMP_SECONDS": 0,
            # Idle schedulers sleep instead of spinning: the stages need the cores.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"{_LOOPBACK} +sbwt none +sbwtdcpu none",
            # The program then is the node, and not a parent of it that reads standard input.
            "RUNNING_UNDER_SYSTEMD": "true",
            "NOTIFY_SOCKET": "",
        }
        return child_environment({}, {name: str(value) for name, value in changes.items()})

    def _start(
        self, command: Sequence[str], environment: dict[str, str], port: int, name: str
    ) -> None:
        with (self._directory / "log" / f"{name}.log").open("ab") as output:
            process = subprocess.Popen(  # noqa: S603 - a program of this machine
                ended_with_us(command),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C reaches the demo alone, which ends the node last.
                start_new_session=True,
            )
        self._closing.callback(end, process, STOP_SECONDS)
        deadline = monotonic() + START_SECONDS
        while not _listens(port):
            if process.poll() is not None or monotonic() > deadline:
                raise FatalError(f"{name} did not start: see {self._directory / 'log'}")
            if self._wait(_POLL_SECONDS):
                raise Stopped


def find_program() -> str:
    """Return the path of RabbitMQ's program; raises ``UsageError`` that says how to install it."""
    path = os.pathsep.join((*PLACES, os.defpath))
    program = shutil.which("rabbitmq-server", path=path) or shutil.which("rabbitmq-server")
    if program is None or shutil.which("epmd") is None:
        raise UsageError(HOW_TO_INSTALL)
    return program


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback address that nobody uses."""
    with ExitStack() as opened:
        sockets = [opened.enter_context(closing(socket.socket())) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def ended_with_us(command: Sequence[str]) -> list[str]:
    """Return a command whose process ends even if the demo is killed, where the system can."""
    setpriv = shutil.which("setpriv")
    return [*([setpriv, "--pdeathsig", "TERM"] if setpriv else []), *command]


def end(process: "subprocess.Popen[bytes]", seconds: float) -> None:
    """End a process, by force if it takes longer."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return True
    except OSError:
        return False
