"""Opens the demo, or says what has to be installed for it."""

from pathlib import Path
from typing import TYPE_CHECKING

from product_consumer.errors import ConfigurationError
from product_consumer.settings import Settings

if TYPE_CHECKING:
    from product_consumer.demo.run import Demo


def open_demo(settings: Settings, catalogue: Path | None) -> "Demo":
    """Return the demo on a catalogue, by default a drawn one.

    Raises ``ConfigurationError`` where the development dependencies that it needs are missing.
    """
    try:
        from product_consumer.demo.run import Demo
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "--demo", f"needs {error.name}: pip install -r requirements-dev.txt"
        ) from error
    return Demo(settings, catalogue)
