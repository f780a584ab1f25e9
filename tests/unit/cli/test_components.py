"""What a command on products opens, and with which model."""

from contextlib import closing
from pathlib import Path

import pytest

from product_consumer.cli.components import opened_components, with_the_ledgers_model
from product_consumer.demo import tiny_model
from product_consumer.errors import ConfigurationError
from product_consumer.ledger.ledger import open_ledger
from product_consumer.settings import Settings


def settings_at(path: Path, model_id: str | None = None, **given: str) -> Settings:
    """Settings of a ledger in ``path``, which a worker with this model has used."""
    settings = Settings.model_validate({"data_dir": path, **given})
    if model_id is not None:
        with closing(open_ledger(settings)) as ledger:
            ledger.setup()
            ledger.claim_model(model_id, 16)
    return settings


def test_the_demos_ledger_is_searched_with_the_demos_model(tmp_path: Path):
    settings = settings_at(tmp_path, f"{tiny_model.MODEL_NAME}/abc")

    chosen = with_the_ledgers_model(settings)

    assert chosen.openclip_model == tiny_model.MODEL_NAME
    assert Path(chosen.openclip_pretrained).is_relative_to(tmp_path)


def test_a_workers_ledger_is_searched_with_the_configured_model(tmp_path: Path):
    settings = settings_at(tmp_path, "ViT-L-14-336/openai")

    assert with_the_ledgers_model(settings) == settings


def test_a_model_that_the_operator_names_wins(tmp_path: Path):
    settings = settings_at(
        tmp_path, f"{tiny_model.MODEL_NAME}/abc", openclip_model="ViT-B-32", openclip_pretrained="x"
    )

    assert with_the_ledgers_model(settings) == settings


def test_a_ledger_that_no_worker_has_used_is_refused_by_name(tmp_path: Path):
    settings = settings_at(tmp_path)

    with (
        pytest.raises(ConfigurationError, match=r"DATABASE_URL.*ledger is empty"),
        opened_components(settings),
    ):
        pytest.fail("nothing was to be opened")
    with pytest.raises(ConfigurationError, match=r"DATABASE_URL.*ledger is empty"):
        with_the_ledgers_model(settings)


def test_components_have_the_ledger_and_the_identity_of_its_stores(tmp_path: Path):
    settings = settings_at(tmp_path, "ViT-L-14-336/openai")

    with opened_components(settings) as components:
        identity = components.ledger.identity()
        stores = components.build_stores()
        stores.keywords.setup(identity)

        assert (identity.model_id, identity.dimension) == ("ViT-L-14-336/openai", 16)
        assert stores.keywords.read_revisions(["abc123"]) == {}
