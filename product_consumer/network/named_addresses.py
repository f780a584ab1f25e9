"""The address of each dependency: what its setting may hold, and the older names of settings.

Every check returns the address and raises ``ValueError`` in words for a person.
"""

import re
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr

from product_consumer.network import service_links
from product_consumer.network.addresses import check_host, check_port, check_url

_HTTP = ("http", "https")
_AMQP = ("amqp", "amqps")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*", re.IGNORECASE)
_QUEUE_EXAMPLE = "https://sqs.us-east-1.amazonaws.com/123456789012/products"
_DATABASE = re.compile(
    r"postgres[\w+]*://(?:[^:/]*(?::[^@]*)?@)?(\[[^/?]+\]|[^/:?]*)(?::([^/?]*))?"
)
_LISTENING_PORTS = ("metrics_port", "api_port")


def with_old_names(values: dict[str, Any]) -> dict[str, Any]:
    """Return the variables with ``MILVUS_HOST``, ``MILVUS_PORT`` and ``ES_HOST`` under new names.

    A port that Kubernetes set, not an operator, is left out.
    """
    values = {
        name: value
        for name, value in values.items()
        if name not in _LISTENING_PORTS or not service_links.is_accidental(name, values)
    }
    if not values.get("milvus_uri") and values.get("milvus_host"):
        port = service_links.port_of(str(values.get("milvus_port") or "19530"))
        values["milvus_uri"] = _as_url(str(values["milvus_host"]), port)
    if not values.get("elasticsearch_url") and values.get("es_host"):
        values["elasticsearch_url"] = _as_url(str(values["es_host"]), "9200")
    return values


def _check_queue(url: str) -> str:
    """A queue's URL with any scheme: ``queues/opening.py`` knows which there are."""
    scheme, separator, _ = url.partition("://")
    if not separator or not _SCHEME.fullmatch(scheme):
        raise ValueError(f"needs the queue's whole URL, such as {_QUEUE_EXAMPLE}")
    if scheme.lower() in _AMQP:
        # It may name several nodes; its transport reads it.
        return url
    check_url(url, (scheme.lower(),), _QUEUE_EXAMPLE)
    if scheme.lower() in _HTTP and not urlsplit(url).path.strip("/"):
        raise ValueError(f"names no queue: needs a URL such as {_QUEUE_EXAMPLE}")
    if scheme.lower() in _HTTP and url.endswith(".fifo"):
        # A FIFO queue delivers one message per group at a time, and a dead-letter queue breaks its
        # order. The ledger keeps the newest message whatever the order of arrival.
        raise ValueError("a FIFO queue is not supported: use a standard queue")
    return url


def _check_dead_letter_queue(text: str) -> str:
    """A URL, or for some transports the name of a queue on the same server."""
    return _check_queue(text) if "://" in text or not text.isprintable() else text


def _check_management(secret: SecretStr) -> SecretStr:
    check_url(secret.get_secret_value(), _HTTP, "http://host:15672")
    return secret


def _check_database(secret: SecretStr) -> SecretStr:
    # SQLAlchemy's own form of a URL: a password may hold / and ?.
    match = _DATABASE.match(secret.get_secret_value())
    host, port = match.groups() if match else ("", None)
    if port is not None:
        check_port(port)
    # Several hosts, or the folder of a socket, are PostgreSQL's to judge.
    if (host or port) and not set(host) & {",", "%", "["}:
        check_host(host)
    return secret


def _check_milvus(uri: Any) -> Any:
    address = service_links.as_http(uri) if isinstance(uri, str) else uri
    if not isinstance(address, str) or "/" in address.partition("://")[0]:
        return address
    if "://" in address:
        return check_url(address, (*_HTTP, "tcp"), "http://host:19530")
    if address.endswith(".db"):
        return address
    raise ValueError("needs http://host:19530 of a server, or a path such as ./milvus.db")


def _check_elasticsearch(url: Any) -> Any:
    if not isinstance(url, str):
        return url
    return check_url(service_links.as_http(url), _HTTP, "http://host:9200")


def _check_endpoint(url: str) -> str:
    return check_url(url, _HTTP, "http://host:9324")


def _check_model(url: str) -> str:
    return check_url(url, _HTTP, "https://host/v1")


def _check_listening_host(host: str) -> str:
    check_host(host.removeprefix("[").removesuffix("]"))
    return host


def _as_url(host: str, default_port: str) -> str:
    if "://" in host:
        return service_links.as_http(host)
    return f"http://{host}" if ":" in host else f"http://{host}:{default_port}"


def _check_header(secret: SecretStr) -> SecretStr:
    if not re.fullmatch("[!-~]+", secret.get_secret_value()):
        raise ValueError("has a space or another character that no key has")
    return secret


QueueUrl = Annotated[str, AfterValidator(_check_queue)]
DeadLetterUrl = Annotated[str, AfterValidator(_check_dead_letter_queue)]
ManagementUrl = Annotated[SecretStr, AfterValidator(_check_management)]
DatabaseUrl = Annotated[SecretStr, AfterValidator(_check_database)]
MilvusUri = Annotated[str, BeforeValidator(_check_milvus)]
ElasticsearchUrl = Annotated[SecretStr, BeforeValidator(_check_elasticsearch)]
EndpointUrl = Annotated[str, AfterValidator(_check_endpoint)]
ModelUrl = Annotated[str, AfterValidator(_check_model)]
ListeningHost = Annotated[str, AfterValidator(_check_listening_host)]
HeaderSecret = Annotated[SecretStr, AfterValidator(_check_header)]
"""A key that is sent in a header of HTTP."""
