"""Tells systemd the state of the service, by the datagrams of sd_notify(3)."""

import logging
import socket
from time import monotonic

from product_consumer.environment import SystemdEnvironment

log = logging.getLogger(__name__)

_SEND_SECONDS = 1.0


class Notifier:
    """Sender of notifications to systemd; without systemd it does nothing. Any thread may call it.

    Every method returns within a second and never raises.
    """

    def __init__(self, environment: SystemdEnvironment) -> None:
        address = environment.notify_socket
        # "@" stands for the zero byte of Linux's abstract namespace.
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        # systemd recommends half of its limit; a third survives one lost datagram.
        self._interval_seconds = environment.watchdog_usec / 1e6 / 3
        self._next_ping = 0.0

    def ready(self) -> None:
        self._send("READY=1\nSTATUS=Consuming")

    def status(self, text: str) -> None:
        """``text``: one line, for ``systemctl status``."""
        self._send(f"STATUS={' '.join(text.split())}")

    def stopping(self) -> None:
        self._send("STOPPING=1\nSTATUS=Finishing what is in flight")

    def ping(self) -> None:
        """Keep the watchdog quiet; call it every second or so while all is well."""
        now = monotonic()
        if self._interval_seconds and now >= self._next_ping:
            self._next_ping = now + self._interval_seconds
            self._send("WATCHDOG=1")

    def _send(self, state: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(_SEND_SECONDS)
                sender.sendto(state.encode(), self._address)
        except OSError as error:
            log.debug("Cannot notify systemd: %s", error)
