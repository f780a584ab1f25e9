"""What an error of Redis means: to wait until it passes, or to refuse until a person acts.

Redis tells by words, which differ between its versions, its relatives and the proxies before it.
"""

from product_consumer.errors import ConfigurationError, ProductConsumerError, StoreUnavailable
from product_consumer.refusals import REDIS, find_refusal

DEPENDENCY = "redis"
SETTING = "REDIS_URL"
_MAX_DETAIL = 200


def translate(error: Exception, about: str = "") -> ProductConsumerError:
    """Return a library's error as one of ours; ``about`` names what was refused."""
    detail = _detail(error)
    told = f"{detail} ({about})" if about else detail
    refusal = find_refusal(REDIS, [type(error).__name__], detail)
    if refusal is None or refusal.setting is None:
        return StoreUnavailable(DEPENDENCY, told)
    return ConfigurationError(refusal.setting, f"{refusal.why}: {told}")


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
