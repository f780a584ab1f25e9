"""RabbitMQ's management API: what AMQP does not tell about a queue."""

from urllib.parse import quote, unquote, urlsplit

import requests

from product_consumer.errors import ConfigurationError, QueueUnavailable
from product_consumer.queues.rabbitmq.url import Node

SETTING = "RABBITMQ_MANAGEMENT_URL"
_SECONDS = 5.0
_LAG_SECONDS = 10.0


class Management:
    """The API of one server; thread-safe. Its counts are up to five seconds old."""

    lag_seconds = _LAG_SECONDS

    def __init__(self, url: str, node: Node) -> None:
        """``node``: whose virtual host is meant, and whose login is used where the URL has none."""
        parts = urlsplit(url)
        self._root = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
        user, password = node.user, node.password
        if parts.username is not None:
            user, password = unquote(parts.username), unquote(parts.password or "")
        self._login = (user, password)
        self._vhost = quote(node.vhost, safe="")

    def unacknowledged(self, queue: str) -> int:
        """Return how many messages of a queue are in hand, of any consumer."""
        counts = self._get(f"queues/{self._vhost}/{quote(queue, safe='')}")
        unacknowledged = counts.get("messages_unacknowledged", 0)
        return unacknowledged if isinstance(unacknowledged, int) else 0

    def consumer_timeout(self, queue: str) -> str:
        """Return the consumer timeout that a policy or an argument sets; empty for neither."""
        described = self._get(f"queues/{self._vhost}/{quote(queue, safe='')}")
        policy = described.get("effective_policy_definition")
        arguments = described.get("arguments")
        for source, name in ((arguments, "x-consumer-timeout"), (policy, "consumer-timeout")):
            if isinstance(source, dict) and name in source:
                return f"{source[name]} ms"
        return ""

    def _get(self, path: str) -> dict[str, object]:
        try:
            response = requests.get(
                f"{self._root}/api/{path}",
                auth=self._login,
                timeout=_SECONDS,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            problem = f"no answer from the management API ({type(error).__name__})"
            raise QueueUnavailable("RabbitMQ", problem) from None
        if response.status_code in (401, 403):
            raise ConfigurationError(SETTING, "the management API refuses this login")
        try:
            answer = response.json() if response.ok else None
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            problem = f"the management API answers {response.status_code}"
            raise QueueUnavailable("RabbitMQ", problem)
        return answer
