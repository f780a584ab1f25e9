"""The demo's small model, loaded once for the stages that need one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from product_consumer.demo import tiny_model
from product_consumer.embedding.embedder import Embedder, load_embedder
from product_consumer.settings import Settings
from tests.support.model_stages import Stages


@pytest.fixture(scope="session")
def model_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    directory = tmp_path_factory.mktemp("model")
    return Settings.model_validate({"device": "cpu", **tiny_model.settings(directory)})


@pytest.fixture(scope="session")
def embedder(model_settings: Settings) -> Iterator[Embedder]:
    loaded = load_embedder(model_settings)
    yield loaded
    loaded.close()


@pytest.fixture
def stages(tmp_path: Path, model_settings: Settings, embedder: Embedder) -> Iterator[Stages]:
    made = Stages(tmp_path, model_settings, embedder)
    yield made
    made.close()
