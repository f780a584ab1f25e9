"""The components of a product worker, opened for one command."""

from collections.abc import Iterator
from contextlib import contextmanager

from product_consumer.demo import tiny_model
from product_consumer.products.components import ProductComponents
from product_consumer.settings import Settings


@contextmanager
def opened_components(settings: Settings) -> Iterator[ProductComponents]:
    """Yield the components with the ledger open; whatever was opened is closed on leaving.

    Raises ``ConfigurationError`` for a ledger that no worker has used yet, and ``Unavailable``.
    """
    components = ProductComponents(settings)
    try:
        components.open_ledger()
        components.ledger.identity()
        yield components
    finally:
        components.close()


def with_the_ledgers_model(settings: Settings) -> Settings:
    """Return the settings that load the model whose embeddings the ledger holds.

    That is the demo's model for a ledger that the demo made, unless the operator names a model.
    Raises as ``opened_components`` does.
    """
    if "openclip_model" in settings.model_fields_set:
        return settings
    with opened_components(settings) as components:
        model_id = components.ledger.identity().model_id
    if not model_id.startswith(f"{tiny_model.MODEL_NAME}/"):
        return settings
    return settings.model_copy(update=tiny_model.settings(settings.data_dir / "model"))
