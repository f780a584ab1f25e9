"""Asks a server, before the slow part of a start, whether it can be the one that is meant."""

from urllib.parse import urlsplit

from elasticsearch import Elasticsearch

from product_consumer.errors import ConfigurationError, StoreUnavailable
from product_consumer.network.tls import why_plain_fails
from product_consumer.stores.elasticsearch.errors import translated_errors

_SETTING, _KEY_SETTING = "ELASTICSEARCH_URL", "ELASTICSEARCH_API_KEY"


def reach(url: str, *, api_key: str | None, timeout_seconds: float) -> None:
    """Ask the server for its version; raise ``ConfigurationError`` or ``StoreUnavailable``."""
    try:
        client = Elasticsearch(url, api_key=api_key, request_timeout=timeout_seconds, max_retries=0)
    except ValueError:
        # The client's message may quote a password in the URL.
        problem = "needs one URL such as http://host:9200, and one way to log in"
        raise ConfigurationError(_SETTING, problem) from None
    parts = urlsplit(url)
    try:
        with client, translated_errors():
            client.info()
    except StoreUnavailable:
        if parts.scheme == "http" and why_plain_fails(parts.hostname or "", parts.port or 80):
            problem = "starts with http://, and what answers speaks TLS only: write https://"
            raise ConfigurationError(_SETTING, problem) from None
        raise
    except ConfigurationError as error:
        if error.setting == _KEY_SETTING and api_key is None:
            # A password in the URL, or none at all.
            setting = _SETTING if "@" in parts.netloc else _KEY_SETTING
            raise ConfigurationError(setting, error.problem) from error
        raise
