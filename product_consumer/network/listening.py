"""Sockets that listen, on IPv4 and IPv6."""

import errno
import socket

from product_consumer.errors import ConfigurationError
from product_consumer.network.addresses import shown

_BACKLOG = 128
_WRONG_PORT = (errno.EADDRINUSE, errno.EACCES, errno.EPERM)


def listen(host: str, port: int, service: str) -> socket.socket:
    """Return a socket that listens at the address.

    Raises ``ConfigurationError``, which names ``<service>_PORT`` where the port is in use or not
    ours, else ``<service>_HOST``.
    """
    bare_host = host.removeprefix("[").removesuffix("]")
    try:
        # Not only addresses of this machine: a name, such as localhost, is taken as well.
        found = socket.getaddrinfo(
            bare_host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, _, _, _, address = found[0]
        return socket.create_server(
            address,
            family=family,
            backlog=_BACKLOG,
            dualstack_ipv6=address[0] == "::" and socket.has_dualstack_ipv6(),
        )
    except (OSError, UnicodeError) as error:
        is_port = getattr(error, "errno", None) in _WRONG_PORT
        setting = f"{service}_PORT" if is_port else f"{service}_HOST"
        # ``create_server`` adds the address.
        words = str(getattr(error, "strerror", None) or error).partition(" (while")[0]
        problem = f"cannot listen at {shown(bare_host, port)}: {words}"
        raise ConfigurationError(setting, problem) from error
