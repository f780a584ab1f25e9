import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from product_consumer.errors import ConfigurationError
from product_consumer.models import StoreIdentity
from product_consumer.settings import read_settings
from product_consumer.stores.memory import InMemoryStore
from product_consumer.stores.opening import Stores, open_stores
from tests.support.paths import REPOSITORY


def opened_names(tmp_path: Path, **settings: str) -> list[str]:
    stores = open_stores(read_settings(env_file=None, data_dir=tmp_path, **settings))
    names = [store.name for store in stores.all]
    stores.close()
    return names


def test_without_settings_everything_is_embedded(tmp_path):
    assert opened_names(tmp_path) == ["milvus", "sqlite_search"]


def test_each_server_is_chosen_by_its_address(tmp_path):
    addresses = {
        "milvus_uri": "http://127.0.0.1:19530",
        "elasticsearch_url": "http://127.0.0.1:9200",
    }

    assert opened_names(tmp_path, **addresses) == ["milvus", "elasticsearch"]


def test_an_address_that_cannot_be_one_names_its_setting(tmp_path):
    with pytest.raises(ConfigurationError) as error:
        opened_names(tmp_path, elasticsearch_url="localhost:9200")

    assert error.value.setting == "ELASTICSEARCH_URL"


def test_setup_reaches_every_store():
    stores = Stores(vectors=InMemoryStore(), keywords=InMemoryStore())
    stores.setup(StoreIdentity("ledger-1", "model-1", 16))

    for store in stores.all:
        with pytest.raises(ConfigurationError):
            store.setup(StoreIdentity("ledger-2", "model-1", 16))


def test_every_store_is_closed_when_closing_one_fails():
    closed = []

    def fail() -> None:
        closed.append("failing")
        raise RuntimeError("cannot close")

    stores = Stores(
        vectors=SimpleNamespace(close=fail),
        keywords=SimpleNamespace(close=lambda: closed.append("other")),
    )
    with pytest.raises(RuntimeError):
        stores.close()

    assert sorted(closed) == ["failing", "other"]


def test_a_client_is_imported_only_when_its_store_is_chosen():
    code = (
        "import sys, product_consumer.stores.opening\n"
        "print({'elasticsearch', 'pymilvus', 'sqlite3'} & set(sys.modules))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )

    assert loaded.stdout.strip() == "set()"
