"""What an error of Redis means: to wait until it passes, or to refuse until a person acts.

Redis tells by words, which differ between its versions, its relatives and the proxies before it.
"""

from enum import Enum

from product_consumer.errors import ConfigurationError, ProductConsumerError, StoreUnavailable

DEPENDENCY = "redis"
SETTING = "REDIS_URL"
_MAX_DETAIL = 200


class Decision(Enum):
    """What to do about an error."""

    WAIT = "time mends it"
    REFUSE = "only a person mends it"


DECISIONS: tuple[tuple[str, Decision], ...] = (
    # A certificate is renewed, and a clock is set, while we wait.
    ("certificate has expired", Decision.WAIT),
    ("certificate is not yet valid", Decision.WAIT),
    ("certificate verify failed", Decision.REFUSE),
    ("alert certificate required", Decision.REFUSE),
    ("alert handshake failure", Decision.REFUSE),
    ("alert unrecognized name", Decision.REFUSE),
    ("alert unknown ca", Decision.REFUSE),
    ("alert bad certificate", Decision.REFUSE),
    ("alert protocol version", Decision.REFUSE),
    ("unsupported protocol", Decision.REFUSE),
    ("wrong version number", Decision.REFUSE),
    ("no certificate or crl found", Decision.REFUSE),
    ("PEM lib", Decision.REFUSE),
    ("key values mismatch", Decision.REFUSE),
    # The user, the password and what they allow.
    ("AuthenticationError", Decision.REFUSE),
    ("AuthorizationError", Decision.REFUSE),
    ("NoPermissionError", Decision.REFUSE),
    ("NOAUTH", Decision.REFUSE),
    ("WRONGPASS", Decision.REFUSE),
    ("NOPERM", Decision.REFUSE),
    ("can't run this command", Decision.REFUSE),
    ("can't access at least one of the keys", Decision.REFUSE),
    ("doesn't have permissions", Decision.REFUSE),
    ("DENIED Redis is running in protected mode", Decision.REFUSE),
    # Commands that a server, its operator or a proxy has taken away.
    ("unknown command", Decision.REFUSE),
    ("unsupported command", Decision.REFUSE),
    ("command is not available", Decision.REFUSE),
    ("not support for normal user", Decision.REFUSE),
    # The number of the database.
    ("index is out of range", Decision.REFUSE),
    ("invalid DB index", Decision.REFUSE),
    ("SELECT is not allowed in cluster mode", Decision.REFUSE),
    ("can only be 0 in cluster mode", Decision.REFUSE),
    ("only 0th database is supported", Decision.REFUSE),
    # An option that the server refuses.
    ("Client names cannot contain", Decision.REFUSE),
    # Something else listens there, or nothing that could.
    ("InvalidResponse", Decision.REFUSE),
    ("Protocol Error", Decision.REFUSE),
    ("AF_UNIX path too long", Decision.REFUSE),
    ("Error 13 connecting to", Decision.REFUSE),
    # A cluster whose user may not ask where the keys are.
    ("Cluster mode is not enabled on this node", Decision.REFUSE),
)
"""Words in an error, or the name of its class, with the decision. The first row found decides;
where none is found, we wait. So we wait for a server that refuses connections, loads its data, is
busy, is full, cannot save, was demoted or lacks replicas, and for a name that is not known yet.
"""


def decision(text: str) -> Decision:
    """Return what the words of an error ask for."""
    lower = text.lower()
    return next((then for words, then in DECISIONS if words.lower() in lower), Decision.WAIT)


def translate(error: Exception, about: str = "") -> ProductConsumerError:
    """Return a library's error as one of ours; ``about`` names what was refused."""
    detail = _detail(error)
    told = f"{detail} ({about})" if about else detail
    if decision(f"{type(error).__name__}: {detail}") is Decision.REFUSE:
        return ConfigurationError(SETTING, f"refused: {told}")
    return StoreUnavailable(DEPENDENCY, told)


def is_wrong_type(error: Exception) -> bool:
    """Return whether a key has another type than ours."""
    return "WRONGTYPE" in str(error)


def mistyped(key: str, error: Exception) -> ConfigurationError:
    """Return what a person has to fix where another program gave a key another type."""
    type_ = str(error).split("WRONGTYPE ", 1)[-1].split()[0]
    problem = f"key {key!r} there is a {type_}, not a hash: rename or delete it"
    return ConfigurationError(SETTING, problem)


def _detail(error: Exception) -> str:
    # Servers repeat the arguments of a command that they do not know: AUTH has the password.
    text = str(error).partition(", with args beginning")[0].strip()
    return text.splitlines()[0][:_MAX_DETAIL] if text else type(error).__name__
