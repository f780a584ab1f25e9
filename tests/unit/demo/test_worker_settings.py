"""The settings of a worker in the demo: it must not reach the servers of a real worker."""

from pathlib import Path

import pytest

from product_consumer.demo import tiny_model
from product_consumer.demo.worker_settings import (
    claim_ledger,
    embedded_settings,
    uses_tiny_model,
    worker_settings,
)
from product_consumer.errors import ConfigurationError
from product_consumer.ledger.ledger import open_ledger
from product_consumer.settings import Settings, read_settings


def test_no_server_of_a_real_worker_is_used(tmp_path: Path) -> None:
    real = Settings.model_validate(
        {
            "data_dir": tmp_path,
            "sqs_dead_letter_queue_url": "https://sqs.eu-west-1.amazonaws.com/1/letters",
            "database_url": "postgresql://real/products",
            "milvus_uri": "http://real:19530",
            "elasticsearch_url": "http://real:9200",
            "redis_url": "redis://real",
            "metrics_port": 9000,
            "quality_llm_url": "http://real/v1",
            "quality_llm_model": "large",
        }
    )
    local = worker_settings(embedded_settings(real), "http://127.0.0.1:1", 2)

    assert local.ledger_url == f"sqlite:///{tmp_path / 'products.db'}"
    assert local.milvus_address == str(tmp_path / "milvus.db")
    assert local.elasticsearch_url is None
    assert local.redis_url is None
    assert local.quality_llm_url is None
    assert local.sqs_dead_letter_queue_url is None
    assert local.metrics_port is None
    assert local.aws_endpoint_url == "http://127.0.0.1:1"
    assert 2 in local.image_allowed_ports


def test_every_setting_that_names_a_server_is_kept_from_the_demo(tmp_path: Path) -> None:
    names = [name for name in Settings.model_fields if name.endswith(("_url", "_uri"))]
    url = "https://real.example/queue"
    real = read_settings(
        None, data_dir=tmp_path, quality_llm_model="large", **dict.fromkeys(names, url)
    )
    local = worker_settings(embedded_settings(real), "http://127.0.0.1:1", 2)

    kept = {name: getattr(local, name) for name in names if getattr(local, name) is not None}
    assert kept == {"aws_endpoint_url": "http://127.0.0.1:1"}


def test_without_data_dir_the_demo_keeps_a_folder_of_its_own() -> None:
    real = Settings()

    assert embedded_settings(real).data_dir == real.data_dir / "demo"


def test_the_tiny_model_gives_way_to_one_that_was_asked_for(tmp_path: Path) -> None:
    by_default = Settings(data_dir=tmp_path)
    asked = Settings(data_dir=tmp_path, openclip_model="ViT-B-32")

    assert uses_tiny_model(by_default)
    assert worker_settings(by_default, "http://a", 1).openclip_model == tiny_model.MODEL_NAME
    assert not uses_tiny_model(asked)
    assert worker_settings(asked, "http://a", 1).openclip_model == "ViT-B-32"


def test_a_ledger_is_claimed_once_and_a_real_workers_never(tmp_path: Path) -> None:
    mine, real = Settings(data_dir=tmp_path / "mine"), Settings(data_dir=tmp_path / "real")
    for _ in range(2):
        claim_ledger(mine)
    ledger = open_ledger(real)
    ledger.setup()
    ledger.close()

    with pytest.raises(ConfigurationError, match="DATA_DIR"):
        claim_ledger(real)
