"""Settings that point an ordinary worker at the demo's servers and keep it off all others."""

from ipaddress import ip_network
from typing import Any

from product_consumer.demo import tiny_model
from product_consumer.errors import ConfigurationError
from product_consumer.ledger.ledger import open_ledger
from product_consumer.settings import Settings

_NOT_FOR_THE_DEMO = (
    "queue_url",
    "sqs_queue_url",
    "dead_letter_queue_url",
    "sqs_dead_letter_queue_url",
    "orders_queue_url",
    "orders_dead_letter_queue_url",
    "rabbitmq_management_url",
    "rabbitmq_server",
    "database_url",
    "milvus_uri",
    "milvus_token",
    "elasticsearch_url",
    "redis_url",
    "metrics_port",
    "quality_llm_url",
)


def uses_tiny_model(settings: Settings) -> bool:
    """Tell whether the operator left the choice of the model to the demo."""
    return "openclip_model" not in settings.model_fields_set


def embedded_settings(settings: Settings) -> Settings:
    """Return the settings without any server: stores are embedded, in a folder of the demo's own
    unless ``DATA_DIR`` is set.
    """
    changes: dict[str, Any] = dict.fromkeys(_NOT_FOR_THE_DEMO)
    if "data_dir" not in settings.model_fields_set:
        changes["data_dir"] = settings.data_dir / "demo"  # never beside the data of a real worker
    if "default_currency" not in settings.model_fields_set:
        changes["default_currency"] = "USD"
    return changed(settings, changes)


def worker_settings(settings: Settings, endpoint_url: str, image_port: int) -> Settings:
    """Return ``embedded_settings`` with the demo's servers and model; unpacks the tiny model."""
    changes: dict[str, Any] = {
        "aws_endpoint_url": endpoint_url,
        "aws_region": "us-east-1",
        "sqs_access_key": "demo",
        "sqs_secret_key": "demo",
        "image_allowed_networks": [*settings.image_allowed_networks, ip_network("127.0.0.0/8")],
        "image_allowed_ports": [*settings.image_allowed_ports, image_port],
        # An image that is missing here stays missing.
        "image_missing_grace_seconds": 0,
    }
    if uses_tiny_model(settings):
        changes |= tiny_model.settings(settings.data_dir / "model")
    return changed(settings, changes)


def claim_ledger(settings: Settings) -> None:
    """Create the demo's ledger, or raise ``ConfigurationError`` when it is a real worker's."""
    ledger = open_ledger(settings)
    try:
        ledger.setup("demo")
        is_ours = ledger.meta()["created_by"] == "demo"
    finally:
        ledger.close()
    if not is_ours:
        raise ConfigurationError(
            "DATA_DIR", "holds the products of a real worker: give the demo another one"
        )


def changed(settings: Settings, changes: dict[str, Any]) -> Settings:
    """Return the settings with changes, checked; a field left to its default stays a default."""
    kept = {name: getattr(settings, name) for name in settings.model_fields_set}
    return Settings.model_validate(kept | changes)
