"""What an error of Redis asks for; the errors are those that redis-py raises, in its words."""

import pytest
from redis import exceptions

from product_consumer.errors import ConfigurationError, StoreUnavailable
from product_consumer.orders.redis.errors import mistyped, translate

CONNECTING = "Error 1 connecting to redis:6379. "
REFUSED = [
    exceptions.AuthenticationError("invalid username-password pair or user is disabled."),
    exceptions.AuthenticationError("Authentication required."),
    exceptions.ResponseError("WRONGPASS invalid username-password pair"),
    exceptions.NoPermissionError("this user has no permissions to run the 'eval' command"),
    exceptions.ResponseError("The user executing the script can't run this command (HSET)"),
    exceptions.ResponseError(
        "Error running script: -NOPERM User executing the script doesn't have permissions to run"
    ),
    exceptions.ResponseError("unknown command 'EVAL', with args beginning with: 'local'"),
    exceptions.ResponseError("unknown command `EVAL`"),
    exceptions.ResponseError("unsupported command 'eval'"),
    exceptions.ResponseError("Command is not available: 'EVAL'."),
    exceptions.ResponseError("DB index is out of range"),
    exceptions.ResponseError("invalid DB index"),
    exceptions.ResponseError("SELECT is not allowed in cluster mode"),
    exceptions.RedisClusterException("A ``db`` querystring option can only be 0 in cluster mode"),
    exceptions.RedisClusterException("Cluster mode is not enabled on this node"),
    exceptions.ResponseError("DENIED Redis is running in protected mode because"),
    exceptions.InvalidResponse("Protocol Error: b'HTTP/1.1 400 Bad Request'"),
    exceptions.ConnectionError(CONNECTING + "[SSL: WRONG_VERSION_NUMBER] wrong version number"),
    exceptions.ConnectionError(
        CONNECTING + "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed"
    ),
    exceptions.ConnectionError(
        CONNECTING + "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: Hostname mismatch"
    ),
    exceptions.ConnectionError(
        "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] alert certificate required"
    ),
    exceptions.ConnectionError(CONNECTING + "[SSL] PEM lib (_ssl.c:3926)."),
    exceptions.ConnectionError("Error AF_UNIX path too long connecting to /a."),
    exceptions.ConnectionError("Error 13 connecting to /run/redis.sock. Permission denied."),
]
WAITED_FOR = [
    exceptions.ConnectionError("Error 111 connecting to redis:6379. Connection refused."),
    exceptions.ConnectionError("Error 113 connecting to redis:6379. No route to host."),
    exceptions.ConnectionError("Error -2 connecting to redis:6379. Name or service not known."),
    exceptions.ConnectionError("Error -3 connecting to redis:6379. Temporary failure in name ..."),
    exceptions.ConnectionError("Error 2 connecting to /run/redis.sock. No such file or directory."),
    exceptions.ConnectionError("Connection closed by server."),
    exceptions.ConnectionError("max number of clients reached"),
    exceptions.MaxConnectionsError("Too many connections"),
    exceptions.ConnectionError("problem with LDAP service"),
    exceptions.TimeoutError("Timeout reading from socket"),
    exceptions.BusyLoadingError("Redis is loading the dataset in memory"),
    exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'. (HSET)"),
    exceptions.ReadOnlyError("You can't write against a read only replica. (HDEL)"),
    exceptions.ResponseError("Error running script: -READONLY You can't write against a replica"),
    exceptions.MasterDownError("Link with MASTER is down and replica-serve-stale-data is 'no'."),
    exceptions.ClusterDownError("The cluster is down"),
    exceptions.RedisClusterException("Redis Cluster cannot be connected. Please provide at least"),
    exceptions.ResponseError("MISCONF Redis is configured to save RDB snapshots, but it can't"),
    exceptions.ResponseError("NOREPLICAS Not enough good replicas to write."),
    exceptions.ResponseError("BUSY Redis is busy running a script."),
    exceptions.ResponseError("UNBLOCKED force unblock from blocking operation"),
    exceptions.TryAgainError("Multiple keys request during rehashing of slot"),
    exceptions.ConnectionError(
        CONNECTING + "certificate verify failed: certificate has expired (_ssl.c:1006)."
    ),
    exceptions.ConnectionError(
        CONNECTING + "certificate verify failed: certificate is not yet valid (_ssl.c:1006)."
    ),
    OSError("anything else"),
]


@pytest.mark.parametrize("error", REFUSED, ids=str)
def test_what_only_a_person_mends_names_the_setting(error: Exception) -> None:
    failure = translate(error)

    assert isinstance(failure, ConfigurationError)
    assert failure.setting == "REDIS_URL"


@pytest.mark.parametrize("error", WAITED_FOR, ids=str)
def test_what_time_mends_is_an_outage(error: Exception) -> None:
    assert isinstance(translate(error), StoreUnavailable)


def test_the_text_names_what_was_refused() -> None:
    failure = translate(exceptions.NoPermissionError("no permissions"), "EVAL on the key 'k'")
    assert str(failure) == (
        "REDIS_URL: the credentials are wrong, or may not do this: no permissions "
        "(EVAL on the key 'k')"
    )


def test_a_password_that_the_server_repeats_is_not_told() -> None:
    said = "unknown command 'AUTH', with args beginning with: 'orders' 'secret'"
    assert "secret" not in str(translate(exceptions.ResponseError(said)))


def test_an_error_without_words_is_told_by_its_name() -> None:
    assert "TimeoutError" in str(translate(exceptions.TimeoutError()))


def test_a_key_of_another_type_is_named_with_it() -> None:
    failure = mistyped("user:U1", exceptions.ResponseError("WRONGTYPE list"))
    assert "key 'user:U1' there is a list" in str(failure)
