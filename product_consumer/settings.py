"""Every setting: typed, ranged and read once, when a process starts.

``read_settings()`` takes ``.env`` and the environment (the environment wins). Old names keep
working: ``SQS_QUEUE_URL`` for ``QUEUE_URL``, ``MILVUS_HOST`` and ``MILVUS_PORT`` for
``MILVUS_URI``, ``ES_HOST`` for ``ELASTICSEARCH_URL``. An empty value means "not set", except for
``DEFAULT_CURRENCY``.
"""

from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from product_consumer.environment import read_environment
from product_consumer.errors import ConfigurationError
from product_consumer.models import VECTOR_FIELDS
from product_consumer.network.named_addresses import (
    DatabaseUrl,
    DeadLetterUrl,
    ElasticsearchUrl,
    EndpointUrl,
    HeaderSecret,
    ListeningHost,
    ManagementUrl,
    MilvusUri,
    ModelUrl,
    QueueUrl,
    with_old_names,
)
from product_consumer.queue_addresses import QUEUE_SETTINGS, QueueAddress, StreamName

DEFAULT_MODEL = "ViT-L-14-336"
MAX_THREADS = 256
DEFAULT_MAX_CONNECTIONS = 12
MAX_PROCESSES = 64
_EMPTY_HAS_A_MEANING = {"DEFAULT_CURRENCY"}


class Settings(BaseModel):
    """All settings, checked and immutable. Field names are the names of settings in lower case.

    Creation raises pydantic's ``ValidationError``; ``read_settings`` translates it.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    # Queue. URLs of some transports hold a password, so they have no repr.
    queue_url: QueueUrl | None = Field(default=None, repr=False)
    dead_letter_queue_url: DeadLetterUrl | None = Field(default=None, repr=False)
    sqs_queue_url: QueueUrl | None = Field(default=None, repr=False)
    sqs_dead_letter_queue_url: DeadLetterUrl | None = Field(default=None, repr=False)
    orders_queue_url: QueueUrl | None = Field(default=None, repr=False)
    orders_dead_letter_queue_url: DeadLetterUrl | None = Field(default=None, repr=False)
    visibility_timeout_seconds: int | None = Field(default=None, ge=2, le=43_200)
    sqs_visibility_timeout_seconds: int = Field(default=120, ge=2, le=43_200)
    # 10 and not 20: a stop waits for the open long poll.
    sqs_wait_seconds: int = Field(default=10, ge=0, le=20)
    rabbitmq_management_url: ManagementUrl | None = None
    # Of data streams. A URL may hold a password, which an option would show in the process list.
    rabbitmq_server: SecretStr | None = None
    aws_endpoint_url: EndpointUrl | None = None
    aws_region: str | None = None
    sqs_access_key: HeaderSecret | None = None
    sqs_secret_key: HeaderSecret | None = None
    sqs_session_token: HeaderSecret | None = None
    # 8 deliveries span about half an hour of backoff. The redrive policy of setup-queues allows
    # more.
    max_attempts: int = Field(default=8, ge=1, le=1000)

    # Stores
    data_dir: Path = Path("data")
    database_url: DatabaseUrl | None = None
    # Default: see ``connection_budget``. Calls of several threads are joined, so few connections
    # serve many threads.
    database_connections: int | None = Field(default=None, ge=1, le=MAX_THREADS + 2)
    milvus_uri: MilvusUri | None = None
    milvus_token: SecretStr | None = None
    milvus_collection: str = Field(default="products", pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,200}$")
    milvus_vector_fields: tuple[str, ...] = VECTOR_FIELDS
    elasticsearch_url: ElasticsearchUrl | None = None
    elasticsearch_api_key: HeaderSecret | None = None
    elasticsearch_index: str = Field(default="products", pattern=r"^[a-z0-9][a-z0-9_.-]{0,200}$")
    # Serves the order statistics to dashboards; the ledger has them with or without Redis.
    redis_url: SecretStr | None = None
    store_timeout_seconds: float = Field(default=10.0, ge=0.5, le=120.0)
    # Must exceed the longest time in which a write can still take effect after its client died.
    repair_horizon_seconds: int = Field(default=300, ge=1, le=86_400)

    # Model
    openclip_model: str = DEFAULT_MODEL
    openclip_pretrained: str = "openai"
    openclip_config: Path | None = None
    openclip_quick_gelu: bool | None = None
    device: str = Field(default="auto", pattern=r"^(auto|cpu|mps|cuda|cuda:\d{1,2})$")
    model_max_batch: int = Field(default=64, ge=1, le=1024)

    # Images
    image_allowed_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    image_allowed_ports: tuple[int, ...] = (80, 443)
    image_timeout_seconds: float = Field(default=15.0, ge=0.5, le=120.0)
    image_max_bytes: int = Field(default=20 * 1024 * 1024, ge=1024, le=1024**3)
    # A 48-megapixel phone photograph passes; each decode may hold three bytes per pixel.
    image_max_pixels: int = Field(default=50_000_000, ge=4096, le=1_000_000_000)
    # A 403, 404 or 410 is tried three times within this time: by then most CDNs have a new image
    # everywhere.
    image_missing_grace_seconds: int = Field(default=120, ge=0, le=86_400)

    # Messages
    default_currency: str = "VND"
    source_timezone: str = "UTC"

    # Runner
    threads: int = Field(default=10, ge=1, le=MAX_THREADS)
    batch_size: int = Field(default=10, ge=1, le=10)
    # One process keeps a small GPU busy; a large one takes two to four.
    processes: int = Field(default=1, ge=1, le=MAX_PROCESSES)
    drain_seconds: float = Field(default=25.0, ge=1.0, le=600.0)
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    # Nothing listens unless a port is set, and then only this machine can connect.
    metrics_host: ListeningHost = Field(default="127.0.0.1", min_length=1)
    metrics_port: int | None = Field(default=None, ge=1, le=65_535)

    # Order service. A key is needed where a network can reach it.
    api_host: ListeningHost = Field(default="127.0.0.1", min_length=1)
    api_port: int = Field(default=8000, ge=1, le=65_535)
    api_key: SecretStr | None = None

    # Quality checks
    quality_llm_url: ModelUrl | None = None
    quality_llm_model: str | None = Field(default=None, validate_default=True)
    quality_llm_api_key: HeaderSecret | None = None
    # Endpoints bill and throttle by call. Nothing waits for a call, so a budget costs only advice.
    quality_llm_calls_per_minute: int = Field(default=30, ge=1, le=6000)
    quality_llm_sample_ratio: float = Field(default=1.0, ge=0.0, le=1.0)
    quality_llm_timeout_seconds: float = Field(default=10.0, ge=0.5, le=120.0)

    # Alerts of the stage anomaly. The URL of a webhook often holds a secret.
    alerts: str | None = Field(default=None, repr=False)
    alerts_allowed_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    alerts_timeout_seconds: float = Field(default=10.0, ge=0.5, le=120.0)

    @model_validator(mode="before")
    @classmethod
    def _accept_old_names(cls, values: dict[str, Any]) -> dict[str, Any]:
        return with_old_names(values)

    @field_validator("milvus_vector_fields", mode="before")
    @classmethod
    def _split_vector_fields(cls, value: Any) -> Any:
        names = _split(value)
        unknown = sorted(set(names) - set(VECTOR_FIELDS))
        if unknown or not names:
            raise ValueError(f"allowed are {', '.join(VECTOR_FIELDS)}, separated by commas")
        return tuple(name for name in VECTOR_FIELDS if name in names)

    @field_validator("image_allowed_networks", "alerts_allowed_networks", mode="before")
    @classmethod
    def _split_networks(cls, value: Any) -> Any:
        return tuple(ip_network(item) for item in _split(value))

    @field_validator("image_allowed_ports", mode="before")
    @classmethod
    def _split_ports(cls, value: Any) -> Any:
        ports = tuple(int(item) for item in _split(value))
        if not ports or not all(0 < port < 65_536 for port in ports):
            raise ValueError("needs port numbers from 1 to 65535, separated by commas")
        return ports

    @field_validator("default_currency")
    @classmethod
    def _check_currency(cls, value: str) -> str:
        value = value.strip().upper()
        if value and not (len(value) == 3 and value.isascii() and value.isalpha()):
            raise ValueError("needs an ISO 4217 code such as VND, or nothing")
        return value

    @field_validator("source_timezone")
    @classmethod
    def _check_timezone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            if not available_timezones():
                raise ValueError("this machine has no time zones: install tzdata") from None
            raise ValueError("is no IANA time zone; one is America/New_York") from None
        return value

    @field_validator("sqs_queue_url", "sqs_dead_letter_queue_url", "sqs_visibility_timeout_seconds")
    @classmethod
    def _check_older_name(cls, value: Any, info: ValidationInfo) -> Any:
        newer_name = str(info.field_name).removeprefix("sqs_")
        if value is not None and info.data.get(newer_name) not in (None, value):
            raise ValueError(f"differs from {newer_name.upper()}: set one of the two")
        return value

    @field_validator("quality_llm_model")
    @classmethod
    def _check_model_name(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("quality_llm_url") is not None:
            raise ValueError("not set: needs the name of a model at QUALITY_LLM_URL")
        return value

    @model_validator(mode="after")
    def _check_key_pair(self) -> "Settings":
        if (self.sqs_access_key is None) != (self.sqs_secret_key is None):
            raise ValueError("SQS_ACCESS_KEY and SQS_SECRET_KEY must be set together, or neither")
        if self.sqs_session_token is not None and self.sqs_access_key is None:
            raise ValueError("SQS_SESSION_TOKEN is set without SQS_ACCESS_KEY and SQS_SECRET_KEY")
        return self

    def queue_of(self, stream: StreamName) -> QueueAddress:
        """Return the address of a stream's queue, from the newest settings that are set."""
        url_names, dead_letter_names = zip(*QUEUE_SETTINGS[stream], strict=True)
        url_setting, url = self._first_set(url_names)
        dead_letter_setting, dead_letter_url = self._first_set(dead_letter_names)
        names = " or ".join(url_names)
        return QueueAddress(stream, url, dead_letter_url, url_setting, dead_letter_setting, names)

    def _first_set(self, names: tuple[str, ...]) -> tuple[str, str | None]:
        values = {name: getattr(self, name.lower()) for name in names}
        return next(((name, url) for name, url in values.items() if url), (names[0], None))

    @property
    def lease_seconds(self) -> int:
        """How long a received message stays hidden, from the newest setting that is set."""
        return self.visibility_timeout_seconds or self.sqs_visibility_timeout_seconds

    @property
    def networks_of_alerts(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """Private networks that alerts may go to: by default those that images may come from."""
        return self.alerts_allowed_networks or self.image_allowed_networks

    @property
    def reject_log_path(self) -> Path:
        """The file of rejected messages that no dead-letter queue can take."""
        return self.data_dir / "rejected.jsonl"

    @property
    def ledger_url(self) -> str:
        """SQLAlchemy URL of the ledger; may hold a password, so never log it."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{quote(str(self.data_dir.resolve() / 'products.db'))}"

    @property
    def connection_budget(self) -> int:
        """Connections to the ledger's database that a process may have open at a time."""
        by_threads = min(self.threads + 2, DEFAULT_MAX_CONNECTIONS)
        return by_threads if self.database_connections is None else self.database_connections

    @property
    def milvus_address(self) -> str:
        """``http://...`` of a server, or the path of an embedded Milvus Lite database."""
        return self.milvus_uri or str(self.data_dir.resolve() / "milvus.db")


def read_settings(env_file: Path | None = Path(".env"), **overrides: Any) -> Settings:
    """Read ``.env`` and the environment; ``overrides`` (field names) win over both.

    Raises ``ConfigurationError`` naming the first setting that cannot work, without its value where
    that may be a secret.
    """
    values: dict[str, Any] = {
        name.lower(): value.strip()
        for name, value in read_environment(env_file).items()
        if value.strip() or name.upper() in _EMPTY_HAS_A_MEANING
    }
    values.update(overrides)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise _first_problem(error, values) from None


def _first_problem(error: ValidationError, values: dict[str, Any]) -> ConfigurationError:
    first = error.errors(include_url=False, include_context=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return ConfigurationError("SQS_ACCESS_KEY", message)
    name = str(first["loc"][0])
    annotation = str(Settings.model_fields[name].annotation)
    has_secret = "SecretStr" in annotation or name.endswith(("url", "uri"))
    quoted = "" if has_secret else f"{values.get(name)!r}: "
    return ConfigurationError(name.upper(), f"{quoted}{message}")


def _split(value: Any) -> list[str]:
    if isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    return [str(item) for item in value]
