"""The settings of a command that answers at once; its log lines are warnings only."""

from product_consumer.environment import provide_temporary_directory
from product_consumer.logs import configure_logging
from product_consumer.settings import Settings, read_settings


def command_settings() -> Settings:
    """Read the settings and set up logging; raises ``ConfigurationError``."""
    settings = read_settings()
    provide_temporary_directory(settings.data_dir / "tmp")
    configure_logging(settings.log_format, "WARNING")
    return settings
