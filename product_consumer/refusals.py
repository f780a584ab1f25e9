"""Refused or waited for: what an error of a dependency means at the start, in one table.

A row with a ``setting`` ends the start with 78: no wait mends it. A row without one is waited for.
So is every error that no row knows, such as a connection that is refused or a name that cannot be
resolved yet. The first row that fits decides.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

POSTGRESQL, MILVUS, ELASTICSEARCH = "PostgreSQL", "Milvus", "Elasticsearch"
REDIS, SQS, RABBITMQ = "Redis", "SQS", "RabbitMQ"
IMPOSSIBLE_HOST = "impossible host"
"""Code of an error that names a host which no name server can ever know."""
TLS_ONLY = "speaks TLS only"
"""Words for a server that was asked without TLS and answers with TLS alone."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One row.

    ``codes``: how an error code begins (SQLSTATE, gRPC status, HTTP status, AWS error code), or the
    name of a library's exception. ``words``: parts of the message; ``…`` stands for anything. One
    of each must fit, where there are any.
    """

    dependency: str
    setting: str | None
    why: str
    codes: tuple[str, ...] = ()
    words: tuple[str, ...] = ()

    def fits(self, codes: Iterable[str], message: str) -> bool:
        """Whether an error with these codes and this message is one of this row."""
        if self.codes and not any(code.startswith(self.codes) for code in codes):
            return False
        return not self.words or any(_contains(message, words) for words in self.words)


def find_refusal(dependency: str, codes: Iterable[str] = (), message: str = "") -> Refusal | None:
    """Return the row for an error of a dependency; None where the table does not know it."""
    known = tuple(codes)
    rows = (row for row in REFUSALS if row.dependency == dependency)
    return next((row for row in rows if row.fits(known, message)), None)


def _contains(message: str, words: str) -> bool:
    pattern = ".*".join(map(re.escape, words.split("…")))
    return re.search(pattern, message, re.IGNORECASE) is not None


_CLOCK = "the clock of this machine is not set yet"
_LOG_IN = "the log-in is refused"
_NO_RIGHT = "the credentials are wrong, or may not do this"


def _waited_for(dependency: str, why: str, *words: str, codes: Iterable[str] = ()) -> Refusal:
    return Refusal(dependency, None, why, tuple(codes), words)


def _tls(dependency: str, setting: str, ca_setting: str) -> tuple[Refusal, ...]:
    """Return the rows of TLS. ``ca_setting``: where an operator names a private CA."""
    return (
        _waited_for(dependency, _CLOCK, "certificate is not yet valid"),
        _waited_for(dependency, "the server needs a new certificate", "certificate has expired"),
        Refusal(
            dependency,
            setting,
            "the address asks for TLS, and the server has none",
            words=("wrong version number", "wrong_version_number", "record layer failure"),
        ),
        Refusal(
            dependency,
            setting,
            "the server's certificate is for another host",
            words=(
                "hostname mismatch",
                "ip address mismatch",
                "doesn't match",
                "does not match host name",
            ),
        ),
        Refusal(
            dependency,
            ca_setting,
            "the server's certificate is of a CA that is not known here",
            words=("certificate verify failed", "certificate_verify_failed"),
        ),
        Refusal(dependency, setting, "the address asks for no TLS", words=(TLS_ONLY,)),
    )


def _postgresql(
    why: str, *words: str, codes: Iterable[str] = (), setting: str = "DATABASE_URL"
) -> Refusal:
    return Refusal(POSTGRESQL, setting, why, tuple(codes), words)


def _redis(why: str, *words: str, codes: Iterable[str] = ()) -> Refusal:
    return Refusal(REDIS, "REDIS_URL", why, tuple(codes), words)


def _sqs(
    setting: str | None, why: str, *words: str, codes: Iterable[str] = (), dependency: str = SQS
) -> Refusal:
    return Refusal(dependency, setting, why, tuple(codes), words)


def _rabbitmq(setting: str | None, why: str, *words: str, codes: Iterable[str] = ()) -> Refusal:
    """``setting``: the newest name of that of the product queue; another queue has its own."""
    return Refusal(RABBITMQ, setting, why, tuple(codes), words)


# What happens before the log-in has no SQLSTATE: libpq reports it as text.
_POSTGRESQL = (
    _waited_for(POSTGRESQL, "the server is starting or stopping", "the database system is …ing"),
    _postgresql("the service is not defined", "definition of service …", setting="PGSERVICE"),
    _postgresql("no such file", "service file … not found", setting="PGSERVICEFILE"),
    _postgresql("it is no port", "invalid port number", 'value … for connection option "port"'),
    _postgresql("the parameter has no such value", "invalid … value"),
    _postgresql("no parameter has this name", "invalid connection option"),
    _postgresql("sslmode asks for TLS, and the server has none", "server does not support SSL"),
    *_tls(POSTGRESQL, "DATABASE_URL", "DATABASE_URL"),
    _postgresql(
        "a file of certificates cannot be used",
        "certificate file … does not exist",
        "could not read … certificate file",
        "could not load … file",
        "private key file …",
    ),
    _postgresql(
        _LOG_IN,
        "authentication failed",
        "no password supplied",
        "no pg_hba.conf entry",
        "is not permitted to log in",
        codes=(),
    ),
    _postgresql("no such role or database", 'FATAL: … "…" does not exist', "no such database"),
    _postgresql(
        "an option is wrong: see the URL and PGOPTIONS",
        "unrecognized configuration parameter",
        "invalid value for parameter",
        "invalid command-line argument",
    ),
    _postgresql("what answers is not PostgreSQL", "received invalid response"),
    _postgresql("the name can never be one of a host", codes=(IMPOSSIBLE_HOST,)),
    _postgresql(_LOG_IN, codes=("28",)),
    _postgresql("no such database or schema", codes=("3D", "3F")),
    _postgresql("no right to do this, or no such table or column", codes=("42",)),
)
_MILVUS = (
    *_tls(MILVUS, "MILVUS_URI", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"),
    Refusal(
        MILVUS, "MILVUS_TOKEN", _LOG_IN, ("UNAUTHENTICATED", "PERMISSION_DENIED", "1400", "1401")
    ),
    Refusal(
        MILVUS,
        "MILVUS_URI",
        "what answers is not Milvus",
        words=("failed parsing HTTP/2", "http1.x server"),
    ),
)
_ELASTICSEARCH = (
    _waited_for(ELASTICSEARCH, "the index is blocked", codes=("cluster_block_exception",)),
    *_tls(ELASTICSEARCH, "ELASTICSEARCH_URL", "SSL_CERT_FILE"),
    Refusal(ELASTICSEARCH, "ELASTICSEARCH_API_KEY", _NO_RIGHT, ("401", "403")),
    Refusal(
        ELASTICSEARCH,
        "ELASTICSEARCH_URL",
        "the address has a path that is not Elasticsearch's",
        words=("no handler found for uri", "Incorrect HTTP method for uri"),
    ),
    Refusal(
        ELASTICSEARCH,
        "ELASTICSEARCH_URL",
        "what answers is not Elasticsearch",
        ("UnsupportedProductError",),
    ),
)
_REDIS_TLS = (
    *("alert certificate required", "alert unknown ca", "alert bad certificate"),
    *("alert protocol version", "unsupported protocol", "no certificate or crl found"),
    *("PEM lib", "key values mismatch"),
)
_REDIS_LOG_IN = (
    *("NOAUTH", "WRONGPASS", "NOPERM", "can't run this command"),
    *("can't access at least one of the keys", "doesn't have permissions"),
)
# Redis tells by words, which differ between its versions, its relatives and the proxies before it.
_REDIS = (
    *_tls(REDIS, "REDIS_URL", "REDIS_URL"),
    _redis("TLS with these files or versions cannot work", *_REDIS_TLS),
    _redis(_NO_RIGHT, codes=("AuthenticationError", "AuthorizationError", "NoPermissionError")),
    _redis(_NO_RIGHT, *_REDIS_LOG_IN),
    _redis("it takes local connections only", "DENIED Redis is running in protected mode"),
    _redis(
        "the server, or a proxy, has taken this command away",
        *("unknown command", "unsupported command", "command is not available"),
        "not support for normal user",
    ),
    _redis(
        "the server has no database of this number",
        *("index is out of range", "invalid DB index", "SELECT is not allowed in cluster mode"),
        *("can only be 0 in cluster mode", "only 0th database is supported"),
    ),
    _redis("what answers is not Redis", "Protocol Error"),
    _redis("what answers is not Redis", codes=("InvalidResponse",)),
    _redis("the socket file cannot be used", "AF_UNIX path too long", "Error 13 connecting to"),
    _redis("the user may not ask where the keys are", "Cluster mode is not enabled on this node"),
)
_SQS = (
    # AWS sends a wrong clock and a wrong key under the same codes.
    _sqs(None, _CLOCK, "signature expired", "signature not yet current"),
    _sqs(None, _CLOCK, codes=("RequestExpired", "RequestTimeTooSkewed", "RequestInTheFuture")),
    _sqs(None, "the token will be renewed", codes=("ExpiredToken", "UnauthorizedSSOTokenError")),
    _sqs("AWS_REGION", "the region is not the endpoint's", "scoped to a valid region"),
    _sqs(
        "SQS_SECRET_KEY",
        "the secret key is not that of the access key",
        codes=("SignatureDoesNotMatch", "InvalidSignature"),
    ),
    _sqs(
        "SQS_ACCESS_KEY",
        _NO_RIGHT,
        codes=(
            *("AccessDenied", "AuthFailure", "IncompleteSignature", "InvalidAccessKeyId"),
            *("InvalidClientTokenId", "InvalidSecurity", "KmsAccessDenied", "OptInRequired"),
            *("MissingAuthenticationToken", "UnrecognizedClientException", "NotAuthorized"),
        ),
    ),
    _sqs("AWS_PROFILE", "no file of AWS has this profile", codes=("ProfileNotFound",)),
    _sqs(
        "AWS_CONFIG_FILE",
        "a file of AWS cannot be read",
        codes=("ConfigParseError", "ConfigNotFound", "InvalidConfigError", "InfiniteLoop"),
    ),
    _sqs(
        "SQS_ACCESS_KEY",
        "there are no credentials to use",
        codes=(
            *("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"),
            *("SSOTokenLoadError", "UnknownCredentialError"),
        ),
    ),
    _sqs("AWS_REGION", "it is no region", codes=("InvalidRegionError", "NoRegionError")),
    _sqs("AWS_CA_BUNDLE", "the file cannot be read", "SSL validation failed … No such file"),
    *_tls(SQS, "AWS_ENDPOINT_URL", "AWS_CA_BUNDLE"),
    _sqs("AWS_ENDPOINT_URL", "what answers there is not SQS", codes=("400", "405", "501")),
    _sqs("AWS_ENDPOINT_URL", "it is no address", "Invalid endpoint: ", "Not supported URL scheme"),
    _sqs("AWS_ENDPOINT_URL", "it is no port", "Port out of range", "Port could not be cast"),
)
_RABBITMQ = (
    _rabbitmq(None, "the virtual host is starting", "vhost … is down"),
    _rabbitmq(None, "other clients will go away", "limit … is reached"),
    *_tls(RABBITMQ, "QUEUE_URL", "QUEUE_URL"),
    _rabbitmq("QUEUE_URL", _LOG_IN, codes=("ProbableAuthenticationError", "AuthenticationError")),
    _rabbitmq("QUEUE_URL", "there is no such virtual host", "vhost … not found"),
    _rabbitmq("QUEUE_URL", "the user may not use this virtual host", "access to vhost … refused"),
    _rabbitmq("QUEUE_URL", "there is no such queue, setup-queues makes it", codes=("404",)),
    _rabbitmq("QUEUE_URL", "the user has no right to do this", codes=("403",)),
    _rabbitmq("QUEUE_URL", "another connection has the queue for itself", codes=("405",)),
)
REFUSALS = _POSTGRESQL + _MILVUS + _ELASTICSEARCH + _REDIS + _SQS + _RABBITMQ
"""Every row, in the order in which they are tried."""
